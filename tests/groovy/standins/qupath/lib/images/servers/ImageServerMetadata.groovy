package qupath.lib.images.servers

class ImageServerMetadata {

    Number mpp

    static class Builder {

        private final ImageServerMetadata made

        Builder(ImageServerMetadata metadata) { made = new ImageServerMetadata(mpp: metadata.mpp) }

        Builder pixelSizeMicrons(Number width, Number height) {
            assert width == height
            made.mpp = width
            return this
        }

        ImageServerMetadata build() { made }
    }
}
