/*
 * Makes a QuPath project of the slides that `dualproto-wsi segment ... -o RESULTS` analysed. QuPath 0.4.4 to 0.7.
 *
 * In QuPath      Drag this file onto QuPath, set PROJECT and PLACES below, choose Run > Run, then open the project.
 * Command line   QuPath script -a PROJECT.qpproj -a RESULTS [-a PLACE ...] create_project.groovy
 *                Exit code 0: every slide is in the project; 1: some is not, the table says which.
 *
 * A PLACE is a slide file, or a folder where slides are looked for that are no longer where they were analysed.
 * Only a new project is made: an old one is never touched. Its images are set to H&E; a slide that does not say its pixel
 * size gets the one that it was analysed with.
 */

import groovy.transform.Field
import java.awt.image.BufferedImage
import java.nio.file.NoSuchFileException
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.ImageServerProvider
import qupath.lib.io.GsonTools
import qupath.lib.projects.Projects

// ---------------------------------------------------------------------------------------------- what you may change
@Field String PROJECT = ''                  // the .qpproj file to make, in a new or empty folder
@Field List<String> PLACES = []             // e.g. ['C:/slides/results', 'D:/moved slides'] (use / on Windows too)
@Field String IMAGE_TYPE = 'BRIGHTFIELD_H_E'
// ------------------------------------------------------------------------------------------------------------------

def options = DualProtoCreate.readArguments(scriptArguments(), [project: PROJECT, places: PLACES])
def file = new File(options.project).getAbsoluteFile()
DualProtoCreate.refuseOld(file)
def parse = { text -> GsonTools.getInstance().fromJson(text, Map) }
def slides = DualProtoCreate.findSlides(options.places.collect { new File(it).getAbsoluteFile() }, parse)
if (!file.parentFile.isDirectory() && !file.parentFile.mkdirs())
    throw new IOException("${file.parentFile}: the folder cannot be made")

def project = Projects.createProject(file, BufferedImage)
def rows = slides.collect { addSlide(project, it, IMAGE_TYPE) }
if (rows.any { it.status == 'added' })
    project.syncChanges()
println DualProtoCreate.report(rows)
def failed = rows.findAll { it.status == 'FAILED' }
if (failed)                                 // makes the exit code 1 on the command line
    throw new RuntimeException("${failed.size()} of ${rows.size()} slides failed; first: ${failed[0].slide}: ${failed[0].note}")


// ----------------------------------------------------------------------------------------------- talking to QuPath

/** Values of -a; none in the script editor. */
List<String> scriptArguments() {
    try {
        return (args ?: []) as List
    } catch (MissingPropertyException ignored) {
        return []
    }
}

/** One slide: never throws, so that one bad file does not stop the others. Returns its line of the table. */
Map addSlide(project, Map slide, String type) {
    def row = [slide: slide.file.name, status: 'FAILED']
    def entry = null
    def server = null
    try {
        if (!slide.file.isFile())
            throw new FileNotFoundException("no such file: ${slide.file}; name the folder where it is now")
        def support = ImageServerProvider.getPreferredUriImageSupport(BufferedImage, slide.file.toURI().toString())
        if (support == null || !support.getBuilders())
            throw new IOException('no reader of QuPath opens it')
        entry = project.addImage(support.getBuilders()[0])
        def imageData = entry.readImageData()
        server = imageData.getServer()
        row.size = "${server.getWidth()} x ${server.getHeight()}".toString()
        entry.setImageName(slide.file.name)
        imageData.setImageType(ImageData.ImageType.valueOf(type))
        if (slide.mpp != null && !server.getPixelCalibration().hasPixelSizeMicrons()) {
            def metadata = new ImageServerMetadata.Builder(server.getMetadata()).pixelSizeMicrons(slide.mpp, slide.mpp).build()
            imageData.updateServerMetadata(metadata)
            row.note = "pixel size set to ${slide.mpp} um".toString()
        }
        entry.saveImageData(imageData)
        row.status = 'added'
    } catch (InterruptedException stopped) {
        throw stopped
    } catch (Throwable problem) {
        row.note = DualProtoCreate.reason(problem)
        if (entry != null)
            project.removeImage(entry, true)
    } finally {
        closeQuietly(server)
    }
    return row
}

void closeQuietly(server) {
    try {
        server?.close()
    } catch (Exception ignored) {
        // the image was saved before
    }
}


// -------------------------------------------------------------------------- decisions, without any class of QuPath

class DualProtoCreate {

    /** Parameters, with the values of -a in place of those at the top of the script. */
    static Map readArguments(List<String> arguments, Map defaults) {
        def given = arguments.collect { it.trim() }.findAll { it }
        def projects = given.findAll { it.toLowerCase().endsWith('.qpproj') }
        if (projects.size() > 1)
            throw new IllegalArgumentException("unexpected argument '${projects[1]}': pass one project (.qpproj)")
        def places = given - projects
        def options = [project: projects ? projects[0] : defaults.project, places: places ?: defaults.places]
        if (!options.project?.toLowerCase()?.endsWith('.qpproj'))
            throw new IllegalArgumentException('no project: set PROJECT at the top of the script, or pass -a PROJECT.qpproj')
        if (!options.places)
            throw new IllegalArgumentException('no slides: set PLACES at the top of the script, or pass -a RESULTS')
        return options
    }

    /** QuPath wants a folder of its own for each project. */
    static void refuseOld(File project) {
        if (project.exists())
            throw new IllegalArgumentException("project ${project}: is there already; nothing was changed")
        def folder = project.parentFile
        if (new File(folder, 'data').exists() || folder.list()?.any { it.toLowerCase().endsWith('.qpproj') })
            throw new IllegalArgumentException("folder ${folder}: holds a project already; name a new folder for ${project.name}")
    }

    /** Slides to add: for each its file, and the pixel size that it was analysed with if there is one. */
    static List<Map> findSlides(List<File> places, Closure parse) {
        def absent = places.find { !it.exists() }
        if (absent != null)
            throw new IllegalArgumentException("${absent}: no such file or folder")
        def slides = places.findAll { it.isFile() }.collect { [file: it, mpp: null] }
        places.findAll { it.isDirectory() }.each { place ->
            records(place).each { slides << readSlide(it, places, parse) }
        }
        // A slide that was named and analysed is one slide, with the pixel size of the analysis
        slides = slides.groupBy { it.file }.collect { file, same -> same.find { it.mpp != null } ?: same[0] }
        if (!slides)
            throw new IllegalArgumentException("no record.json in ${places.join(', ')} or in a folder below; " +
                    'give the folder that followed -o, or slide files')
        return slides.sort { it.file.name }
    }

    private static List<File> records(File place) {
        def folders = [place] + (place.listFiles().findAll { it.isDirectory() }.sort { it.name })
        return folders.collect { new File(it, 'record.json') }.findAll { it.isFile() }
    }

    private static Map readSlide(File record, List<File> places, Closure parse) {
        def slide
        try {
            slide = parse(record.getText('UTF-8')).slide
            def file = new File(slide.path ?: slide.file)
            def moved = places.collect { it.isFile() ? it : new File(it, slide.file) }.find { it.name == slide.file && it.isFile() }
            return [file: file.isFile() ? file : moved ?: file, mpp: slide.mpp]
        } catch (Exception error) {
            throw new IllegalArgumentException("${record.parentFile.name}/record.json cannot be read: ${reason(error)}")
        }
    }

    /** An error in one line: that of its first cause. */
    static String reason(Throwable problem) {
        while (problem.cause != null)
            problem = problem.cause
        def message = problem.message?.trim()
        if (problem instanceof NoSuchFileException)
            return "no such file: ${message}"
        return message ? message.readLines()[0] : problem.toString()
    }

    /** The table that is printed. */
    static String report(List<Map> rows) {
        def columns = ['slide', 'status', 'size', 'note']
        def cells = [columns] + rows.collect { row -> columns.collect { row[it] == null ? '' : row[it].toString() } }
        def widths = (0..<columns.size() - 1).collect { column -> cells.collect { it[column].size() }.max() }
        def lines = cells.collect { line ->
            ((0..<columns.size() - 1).collect { line[it].padRight(widths[it]) } + line[-1]).join('  ').trim()
        }
        def counts = rows.countBy { it.status }.collect { status, count -> "${count} ${status}" }
        lines << "DualProto project: ${counts.join(', ')}".toString()
        return lines.join('\n')
    }
}
