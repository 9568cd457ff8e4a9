package qupath.lib.projects

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Path
import qupath.lib.images.ImageData
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
    private List entries = []
    private List classes = []
    private boolean masked

    Project(File file) { this.file = file }

    Path getPath() { file.toPath() }

    List getImageList() { entries }

    Entry addImage(Object builder) {
        def stored = [id: (entries.size() + 1).toString(), uris: [builder.uri.toString()]] + builder.build().size
        def entry = new Entry(this, stored)
        entries << entry
        return entry
    }

    void removeImage(Entry entry, boolean removeAllData) {
        assert removeAllData
        entries.remove(entry)
    }

    boolean getMaskImageNames() { masked }

    List getPathClasses() { classes.asImmutable() }

    Entry getEntry(ImageData image) { entries.find { it.is(image.entry) || (it.project.file == image.entry.project.file && it.getID() == image.entry.getID()) } }

    boolean setPathClasses(Collection wanted) {
        if (classes.size() != wanted.size() || classes.containsAll(wanted))      // QuPath's trap
            classes = wanted as List
        return true
    }

    void syncChanges() {
        file.text = JsonOutput.toJson([masked: masked, images: entries.collect { it.stored }])
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

    void setImageName(String name) { stored.name = name }

    String getOriginalImageName() { stored.name }

    Collection<URI> getURIs() { stored.uris.collect { new URI(it) } }

    boolean hasImageData() { dataFile().exists() }

    ImageData readImageData() {
        if (stored.missing)
            throw new FileNotFoundException("${stored.name} (no such image)")
        def image = new ImageData(this, stored)
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
        stored.mpp = image.server.mpp
        stored.type = image.imageType?.name()
        dataFile().text = JsonOutput.toJson(image.hierarchy.getAllObjects(false).collect { it.toMap() })
        image.lastSavedPath = dataFile().path
    }
}
