package qupath.lib.images

import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.objects.PathObject

/** Stand-in: an image of a project with its objects; `entry` is what the stand-in of Project finds it by. */
class ImageData {

    enum ImageType { UNSET, BRIGHTFIELD_H_E }

    final Object entry
    ImageType imageType
    private final Server server
    private final Hierarchy hierarchy = new Hierarchy()
    private String lastSavedPath

    ImageData(Object entry, Map stored) {
        this.entry = entry
        server = stored.turned ? new RotatedImageServer(stored) : new Server(stored)
    }

    Server getServer() { server }

    Hierarchy getHierarchy() { hierarchy }

    String getLastSavedPath() { lastSavedPath }

    void updateServerMetadata(ImageServerMetadata metadata) { server.mpp = metadata.mpp }
}

/** Stand-in: OpenSlide's has a private boundsX, others have none. */
class Server {

    private final int width, height
    private final List bounds
    private boolean closed
    Number mpp

    Server(Map stored) {
        width = stored.width
        height = stored.height
        mpp = stored.mpp
        bounds = stored.bounds
    }

    int getWidth() { width }

    int getHeight() { height }

    ImageServerMetadata getMetadata() { new ImageServerMetadata(mpp: mpp) }

    PixelCalibration getPixelCalibration() { new PixelCalibration(mpp: mpp) }

    Object hasProperty(String name) { bounds != null && name in ['boundsX', 'boundsY'] ? name : null }

    Object propertyMissing(String name) { bounds[['boundsX', 'boundsY'].indexOf(name)] }

    boolean isClosed() { closed }

    void close() { closed = true }
}

class RotatedImageServer extends Server {

    RotatedImageServer(Map stored) { super(stored) }
}

class PixelCalibration {

    Number mpp

    boolean hasPixelSizeMicrons() { mpp != null }

    double getPixelWidthMicrons() { mpp == null ? Double.NaN : mpp }

    double getPixelHeightMicrons() { getPixelWidthMicrons() }
}

class Hierarchy {

    private List<PathObject> objects = []
    private boolean resolved

    Hierarchy getSelectionModel() { this }

    void deselectObjects(Collection<PathObject> some) { }

    Collection<PathObject> getAllObjects(boolean includeRoot) {
        assert !includeRoot
        return objects.collect()
    }

    Collection<PathObject> getAnnotationObjects() { objects.findAll { it.isAnnotation() } }

    boolean addObjects(Collection<PathObject> some) { objects.addAll(some) }

    void removeObjects(Collection<PathObject> some, boolean keepChildren) {
        assert keepChildren
        objects = objects.findAll { !some.contains(it) }
    }

    void resolveHierarchy() { resolved = true }
}
