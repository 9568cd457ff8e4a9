package qupath.lib.io

import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import java.util.zip.GZIPInputStream
import qupath.lib.objects.PathObject

/** Stand-in: reads the GeoJSON the product writes; another ending gives no objects, as in QuPath. */
class PathIO {

    static List<PathObject> readObjects(Path path) {
        def name = path.fileName.toString().toLowerCase()
        def stream = Files.newInputStream(path)
        if (name.endsWith('.gz')) {
            stream = new GZIPInputStream(stream)
            name = name[0..-4]
        }
        if (!name.endsWith('.geojson'))
            return []
        def text = stream.withStream { it.getText('UTF-8') }
        return new JsonSlurper().parseText(text).features.collect { PathObject.fromFeature(it) }
    }
}
