package qupath.lib.io

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import qupath.lib.objects.PathObject

/** Stand-in; QuPath's own hands out a Gson. (QuPath ships no groovy-json: a script must not use it, a test may.) */
class GsonTools {

    static GsonTools getInstance() { new GsonTools() }

    Object fromJson(String text, Class type) {
        def value = new JsonSlurper().parseText(text)
        assert type.isInstance(value)
        return floating(value)
    }

    String toJson(Object value) {
        return JsonOutput.toJson(value instanceof PathObject.ROI ? [type: 'Point', coordinates: value.point] : value)
    }

    /** Gson reads every number as a double. */
    private static Object floating(value) {
        if (value instanceof Map)
            return value.collectEntries { key, item -> [key, floating(item)] }
        if (value instanceof List)
            return value.collect { floating(it) }
        return value instanceof Number ? value.doubleValue() : value
    }
}
