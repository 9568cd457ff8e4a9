package qupath.lib.objects

import qupath.lib.objects.classes.PathClass

/** Stand-in: an object of an image, with its outline's first point in place of a ROI. */
class PathObject {

    private String id, type, className
    private boolean locked
    private Map measurements
    private List point
    private String name

    static PathObject of(Map data) {
        def made = new PathObject()
        made.id = data.id
        made.type = data.type
        made.className = data.className
        made.locked = data.locked
        made.measurements = data.measurements
        made.point = data.point
        made.name = data.name
        return made
    }

    static PathObject fromFeature(Map feature) {
        def properties = feature.properties
        def colour = properties.classification?.color
        if (colour != null)
            PathClass.fromString(properties.classification.name).offerColor(colour)
        return of(id: feature.id ?: UUID.randomUUID().toString(), type: properties.objectType, locked: properties.isLocked == true,
                className: properties.classification?.name, measurements: properties.measurements ?: [:],
                point: feature.geometry.coordinates[0][0])
    }

    Map toMap() {
        [id: id, type: type, className: className, locked: isLocked(), measurements: measurements, point: point] +
                (name == null ? [:] : [name: name])
    }

    PathObject moved(double dx, double dy) {
        of(toMap() + [point: [point[0] + dx, point[1] + dy]])
    }

    String getName() { name }

    PathClass getPathClass() { className == null ? null : PathClass.fromString(className) }

    ROI getROI() { new ROI(point) }

    UUID getID() { UUID.fromString(id) }

    boolean isAnnotation() { type == 'annotation' }

    boolean isLocked() { isAnnotation() ? locked : true }

    void setLocked(boolean value) {
        if (!isAnnotation() && !value)
            throw new UnsupportedOperationException('Locked status cannot be unset!')
        locked = value
    }

    MeasurementList getMeasurementList() { new MeasurementList(measurements) }

    static class MeasurementList {

        private final Map values

        MeasurementList(Map values) { this.values = values }

        Set<String> keySet() { values.keySet() }
    }

    static class ROI {

        final List point

        ROI(List point) { this.point = point }
    }
}
