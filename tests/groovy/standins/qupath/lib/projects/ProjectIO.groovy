package qupath.lib.projects

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Path
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass

/** Stand-in: a project is a .qpproj file (entries), classes.json and one data-ID.json per image that was saved. */
class ProjectIO {

    static Project loadProject(File file, Class type) {
        def project = new Project(file)
        def stored = new JsonSlurper().parse(file)
        project.masked = stored.masked == true
        project.entries = stored.images.collect { new Entry(project, it) }
        def classes = new File(file.parentFile, 'classes.json')
        if (classes.exists())
            new JsonSlurper().parse(classes).each { item ->
                def pathClass = PathClass.fromString(item.name)
                pathClass.setColor(item.colour[0], item.colour[1], item.colour[2])
                project.classes << pathClass
            }
        return project
    }
}

class Project {

    private final File file
    private List entries
    private List classes = []
    private boolean masked

    Project(File file) { this.file = file }

    Path getPath() { file.toPath() }

    List getImageList() { entries }

    boolean getMaskImageNames() { masked }

    List getPathClasses() { classes.asImmutable() }

    Entry getEntry(ImageData image) { entries.find { it.is(image.entry) || (it.project.file == image.entry.project.file && it.getID() == image.entry.getID()) } }

    boolean setPathClasses(Collection wanted) {
        if (classes.size() != wanted.size() || classes.containsAll(wanted))      // QuPath's trap
            classes = wanted as List
        return true
    }

    void syncChanges() {
        new File(file.parentFile, 'classes.json').text = JsonOutput.toJson(classes.collect { it.toMap() })
    }
}

class Entry {

    final Project project
    private final Map stored

    Entry(Project project, Map stored) {
        this.project = project
        this.stored = stored
    }

    private File dataFile() { new File(project.file.parentFile, "data-${stored.id}.json") }

    String getID() { stored.id }

    String getImageName() { project.masked ? "masked-${stored.id}" : stored.name }

    String getOriginalImageName() { stored.name }

    Collection<URI> getURIs() { stored.uris.collect { new URI(it) } }

    boolean hasImageData() { dataFile().exists() }

    ImageData readImageData() {
        if (stored.missing)
            throw new FileNotFoundException("${stored.name} (no such image)")
        def image = new ImageData(this, stored.width, stored.height)
        try {
            if (hasImageData()) {
                image.hierarchy.addObjects(new JsonSlurper().parse(dataFile()).collect { PathObject.of(it) })
                image.lastSavedPath = dataFile().path
            }
        } catch (groovy.json.JsonException ignored) {
            // QuPath logs the problem and goes on with an empty image
        }
        return image
    }

    void saveImageData(ImageData image) {
        dataFile().text = JsonOutput.toJson(image.hierarchy.getAllObjects(false).collect { it.toMap() })
        image.lastSavedPath = dataFile().path
    }
}

class ImageData {

    final Entry entry
    private final Server server
    private final Hierarchy hierarchy = new Hierarchy()
    private String lastSavedPath

    ImageData(Entry entry, int width, int height) {
        this.entry = entry
        server = new Server(width, height)
    }

    Server getServer() { server }

    Hierarchy getHierarchy() { hierarchy }

    String getLastSavedPath() { lastSavedPath }
}

class Server {

    private final int width, height
    private boolean closed

    Server(int width, int height) {
        this.width = width
        this.height = height
    }

    int getWidth() { width }

    int getHeight() { height }

    boolean isClosed() { closed }

    void close() { closed = true }
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

    boolean addObjects(Collection<PathObject> some) { objects.addAll(some) }

    void removeObjects(Collection<PathObject> some, boolean keepChildren) {
        assert keepChildren
        objects = objects.findAll { !some.contains(it) }
    }

    void resolveHierarchy() { resolved = true }
}
