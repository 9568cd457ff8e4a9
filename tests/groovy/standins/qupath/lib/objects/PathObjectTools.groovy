package qupath.lib.objects

import java.awt.geom.AffineTransform

class PathObjectTools {

    static PathObject transformObjectRecursive(PathObject object, AffineTransform move, boolean copyMeasurements, boolean createNewIDs) {
        assert copyMeasurements && !createNewIDs
        return object.moved(move.translateX, move.translateY)
    }
}
