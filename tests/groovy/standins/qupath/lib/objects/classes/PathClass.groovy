package qupath.lib.objects.classes

/** Stand-in: one per name and session; a colour in a file counts only if the class had none. */
class PathClass {

    private static final Map<String, PathClass> KNOWN = [:]
    private String name
    private List colour

    static void forgetAll() { KNOWN.clear() }

    static PathClass fromString(String name) {
        if (!KNOWN.containsKey(name))
            KNOWN[name] = new PathClass(name: name)
        return KNOWN[name]
    }

    void setColor(int red, int green, int blue) { colour = [red, green, blue] }

    Integer getColor() { colour == null ? null : (colour[0] << 16) | (colour[1] << 8) | colour[2] }

    String toString() { name }

    void offerColor(List offered) { colour = colour ?: offered }

    Map toMap() { [name: name, colour: colour] }
}
