/*
 * Writes the annotations of a QuPath project as GeoJSON, one file an image, for training and evaluation: what you drew,
 * what you corrected, and the regions of DualProto that you left as they were. QuPath 0.4.4 to 0.7. Changes nothing.
 *
 * In QuPath      Open your project, drag this file onto QuPath, set OUT below, choose Run > Run.
 *                Every image of the project is written, an open one as you see it, the others as they were saved.
 * Command line   QuPath script -a PROJECT.qpproj -a OUT [-a RESULTS] export_corrections.groovy
 *                Exit code 0: everything written; 1: something was not, the table says what.
 *                QuPath script -p PROJECT.qpproj -a OUT export_corrections.groovy
 *                Also works, image by image; but QuPath then exits with 0 even if an image failed: read the tables.
 *
 * Each annotation says in "origin" where it comes from:
 *   drawn      by you
 *   changed    a region of DualProto with another outline than the model's or, if RESULTS is given, another class
 *   unchanged  a region of DualProto as the model made it
 *   model      a region of DualProto with the model's outline; set RESULTS to have its class compared too
 *
 * Coordinates are full-resolution pixels of the image as QuPath shows it. "offset" in the file, where it is known, is
 * what to add for pixels of the whole slide: QuPath crops some slides (MRXS, some Hamamatsu and Leica) when it opens them.
 * "turned" says that the image was rotated or mirrored when it was added to the project.
 */

import groovy.transform.Field
import java.awt.image.BufferedImage
import java.nio.file.Files
import java.nio.file.NoSuchFileException
import java.nio.file.StandardCopyOption
import java.text.Normalizer
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.ProjectIO

// ---------------------------------------------------------------------------------------------- what you may change
@Field String OUT = ''                      // the folder to write to, e.g. 'C:/slides/corrections' (use / on Windows too)
@Field String RESULTS = ''                  // the folder given to -o of segment, to find classes that you changed
@Field String PROJECT = ''                  // a .qpproj file; '' is the project that is open in QuPath
@Field boolean CHANGED_ONLY = false         // leave out regions of DualProto that you did not change
@Field boolean UNCLASSIFIED = false         // also write annotations without a class
// ------------------------------------------------------------------------------------------------------------------

def options = DualProtoExport.readArguments(scriptArguments(), [project: PROJECT, out: OUT, results: RESULTS,
        changedOnly: CHANGED_ONLY, unclassified: UNCLASSIFIED])
def out = new File(options.out).getAbsoluteFile()
if (!out.isDirectory() && !out.mkdirs())
    throw new IOException("${out}: the folder cannot be made")
def parse = { text -> GsonTools.getInstance().fromJson(text, Map) }
def results = options.results ? DualProtoExport.findResults(new File(options.results), parse) : null
def project = openProject(options.project)
def opened = openedImages(project, options.project)
def onlyOne = imageOfThisRun(project, options.project)

def entries = project.getImageList()
def files = DualProtoExport.fileNames(entries.collect { [id: it.getID(), file: fileOf(it)] })
def rows = []
[entries, files].transpose().each { entry, file ->
    if (onlyOne == null || onlyOne == entry.getID())
        rows << exportEntry(entry, opened[entry.getID()], new File(out, file), results, options)
}
println DualProtoExport.report(rows)
def failure = DualProtoExport.failure(rows, onlyOne == null)
if (failure != null)
    throw new RuntimeException(failure)     // makes the exit code 1 on the command line


// ----------------------------------------------------------------------------------------------- talking to QuPath

/** Values of -a; none in the script editor. */
List<String> scriptArguments() {
    try {
        return (args ?: []) as List
    } catch (MissingPropertyException ignored) {
        return []
    }
}

/** The project that was named, else the one that is open in QuPath or was given with -p. */
def openProject(String path) {
    def open = getProject()
    if (!path) {
        if (open == null)
            throw new IllegalArgumentException('no project: open one in QuPath, set PROJECT, or pass -a PROJECT.qpproj')
        return open
    }
    def file = new File(path).getAbsoluteFile()
    if (!file.isFile())
        throw new IllegalArgumentException("project ${path}: no such file")
    if (open != null && open.getPath() != null && open.getPath().toFile().getAbsoluteFile() == file)
        return open
    return ProjectIO.loadProject(file, BufferedImage)
}

/** Images of the project that a viewer or this run holds open, by entry id: they may hold work that is not saved. */
Map<String, Object> openedImages(project, String path) {
    def images = []
    def gui = getQuPath()
    if (gui != null) {
        // The only call that changed its name: getViewers() became getAllViewers() in 0.5
        def viewers = gui.metaClass.respondsTo(gui, 'getAllViewers') ? gui.getAllViewers() : gui.getViewers()
        images.addAll(viewers.collect { it.getImageData() })
    }
    if (!path)
        images << getCurrentImageData()
    def byEntry = [:]
    images.findAll { it != null }.each { image ->
        def entry = project.getEntry(image)
        if (entry != null)
            byEntry[entry.getID()] = image
    }
    return byEntry
}

/** Entry id if QuPath itself goes through the images (-p, or Run for project); null if this script goes through all. */
String imageOfThisRun(project, String path) {
    def current = getCurrentImageData()
    if (path || current == null)
        return null
    if (getQuPath() != null && getQuPath().getImageData().is(current))
        return null
    return project.getEntry(current)?.getID()
}

List<URI> addressesOf(entry) {
    try {
        return entry.getURIs() as List
    } catch (IOException ignored) {
        return []
    }
}

/** File name of an image; its name in the project where it has no file. */
String fileOf(entry) {
    def addresses = addressesOf(entry)
    return addresses ? DualProtoExport.fileName(addresses[0]) : entry.getOriginalImageName()
}

/** One image: never throws, so that one bad file does not stop the others. Returns its line of the table. */
Map exportEntry(entry, opened, File file, List<Map> results, Map options) {
    def row = [image: entry.getImageName(), status: 'FAILED']
    def server = null
    try {
        def imageData = opened ?: entry.readImageData()
        if (imageData == null)
            throw new IOException('QuPath cannot open the image; set its place with Project > Check project URIs')
        // If saved data cannot be read QuPath hands out an empty image: that is no image without annotations
        if (entry.hasImageData() && opened == null && imageData.getLastSavedPath() == null)
            throw new IOException('QuPath cannot read the data saved for this image')
        server = imageData.getServer()
        def result = DualProtoExport.resultOf(fileOf(entry), results)
        def classes = result == null ? null : regionClasses(result)
        def features = imageData.getHierarchy().getAnnotationObjects()
                .findAll { it.getROI() != null && (options.unclassified || it.getPathClass() != null) }
                .collect { feature(it, classes) }
        if (options.changedOnly)
            features = features.findAll { it.properties.origin in ['drawn', 'changed'] }
        features = features.sort { it.id }
        row += [written: features.size()] + features.countBy { it.properties.origin }
        row += DualProtoExport.outcome(features.size(), file)
        if (features)
            write(file, about(entry, server, result, features), features)
    } catch (InterruptedException stopped) {
        throw stopped
    } catch (Throwable problem) {
        row = [image: row.image, status: 'FAILED', note: DualProtoExport.reason(problem)]
    } finally {
        if (opened == null)
            closeQuietly(server)
    }
    return row
}

void closeQuietly(server) {
    try {
        server?.close()
    } catch (Exception ignored) {
        // everything was read before
    }
}

/** Class of every region of a result, by id. */
Map<String, String> regionClasses(Map result) {
    def file = DualProtoExport.regionFile(result)
    try {
        return PathIO.readObjects(file.toPath()).collectEntries { [it.getID().toString(), it.getPathClass()?.toString()] }
    } catch (IOException | RuntimeException problem) {
        throw new IOException("${file.name} cannot be read: ${DualProtoExport.reason(problem)}")
    }
}

/** An annotation as a GeoJSON feature that QuPath reads too. */
Map feature(PathObject annotation, Map<String, String> classes) {
    def id = annotation.getID().toString()
    def pathClass = annotation.getPathClass()
    def measured = annotation.getMeasurementList().keySet().any { it.startsWith('DualProto ') }
    def properties = [objectType: 'annotation',
                      origin: DualProtoExport.origin(id, pathClass?.toString(), measured, classes)]
    if (annotation.getName() != null)
        properties.name = annotation.getName()
    if (pathClass != null)
        properties.classification = [name: pathClass.toString(), color: DualProtoExport.colour(pathClass.getColor())]
    if (annotation.isLocked())
        properties.isLocked = true
    // By way of text: QuPath's writer of outlines cannot write into a tree
    def gson = GsonTools.getInstance()
    def geometry = gson.fromJson(gson.toJson(annotation.getROI()), Map)
    return [type: 'Feature', id: id, geometry: geometry, properties: properties]
}

/** What the file says of its image. */
Map about(entry, server, Map result, List<Map> features) {
    def image = [file: fileOf(entry), name: entry.getOriginalImageName(), width: server.getWidth(), height: server.getHeight()]
    def addresses = addressesOf(entry)
    if (addresses)
        image.uri = addresses[0].toString()
    def size = server.getPixelCalibration()
    if (size.hasPixelSizeMicrons())
        image += [mpp_x: size.getPixelWidthMicrons(), mpp_y: size.getPixelHeightMicrons()]
    def about = [content: 'annotations of QuPath', version: 1, image: image, frame: 'qupath']
    def cropped = server.hasProperty('boundsX') ? [server.boundsX, server.boundsY] : null
    if (DualProtoExport.isTurned(server.getClass().getSimpleName()))
        about.turned = true
    else
        about.offset = DualProtoExport.offset(cropped, result?.record, server.getWidth(), server.getHeight())
    about = about.findAll { it.value != null }
    about.classes = features.countBy { it.properties.classification?.name ?: '' }.sort()
    about.origins = features.countBy { it.properties.origin }.sort()
    return about
}

/** Writes a line a feature; the file appears whole or not at all. */
void write(File file, Map about, List<Map> features) {
    def gson = GsonTools.getInstance()
    def part = new File(file.parentFile, "${file.name}.part")
    part.withWriter('UTF-8') { writer ->
        writer << '{"type":"FeatureCollection","dualproto":' << gson.toJson(about) << ',"features":[\n'
        features.eachWithIndex { feature, number -> writer << (number ? ',\n' : '') << gson.toJson(feature) }
        writer << '\n]}\n'
    }
    Files.move(part.toPath(), file.toPath(), StandardCopyOption.REPLACE_EXISTING)
}


// -------------------------------------------------------------------------- decisions, without any class of QuPath

class DualProtoExport {

    static final List<String> ORIGINS = ['drawn', 'changed', 'unchanged', 'model']

    /** Parameters, with the values of -a in place of those at the top of the script. */
    static Map readArguments(List<String> arguments, Map defaults) {
        def switches = ['changed-only': [changedOnly: true], 'unclassified': [unclassified: true]]
        def options = [:] + defaults
        def named = [] as Set
        arguments.collect { it.trim() }.findAll { it }.each { argument ->
            if (switches.containsKey(argument)) {
                options.putAll(switches[argument])
                return
            }
            def name = argument.toLowerCase().endsWith('.qpproj') ? 'project' : named.contains('out') ? 'results' : 'out'
            if (!named.add(name))
                throw new IllegalArgumentException("unexpected argument '${argument}': pass one project (.qpproj), the " +
                        "folder to write to, the results folder if wanted, and any of ${switches.keySet().join(', ')}")
            options[name] = argument
        }
        if (!options.out)
            throw new IllegalArgumentException('no folder to write to: set OUT at the top of the script, or pass -a OUT')
        return options
    }

    /** Results in a folder: one per record.json that can be read, in the folder itself or one below. */
    static List<Map> findResults(File folder, Closure parse) {
        if (!folder.isDirectory())
            throw new IllegalArgumentException("results ${folder}: no such folder; give the folder that followed -o")
        def folders = [folder] + (folder.listFiles().findAll { it.isDirectory() }.sort { it.name })
        def results = folders.findAll { new File(it, 'record.json').isFile() }.collect { readResult(it, parse) }
        if (!results)
            throw new IllegalArgumentException("results ${folder}: no record.json in it or in a folder below; " +
                    'give the folder that followed -o')
        return results
    }

    private static Map readResult(File folder, Closure parse) {
        try {
            def record = parse(new File(folder, 'record.json').getText('UTF-8'))
            return [folder: folder, name: folder.name, file: record.slide.file, record: record]
        } catch (Exception error) {
            throw new IllegalArgumentException("${folder.name}/record.json cannot be read: ${reason(error)}")
        }
    }

    /** The result of the slide with exactly this file name; null if there is none. */
    static Map resultOf(String file, List<Map> results) {
        def found = results?.findAll { plain(it.file) == plain(file) } ?: []
        if (found.size() > 1)
            throw new IllegalArgumentException("${found.size()} results are of ${file}: ${found.collect { it.name }.join(', ')}; " +
                    'give one of these folders as RESULTS')
        return found ? found[0] : null
    }

    /** The file with the regions of a result. */
    static File regionFile(Map result) {
        def names = [result.file + '.geojson', result.file + '.geojson.gz']
        def name = names.find { new File(result.folder, it).isFile() }
        if (name == null)
            throw new IOException("${result.name}: neither ${names.join(' nor ')} is there")
        return new File(result.folder, name)
    }

    /**
     * Where an annotation comes from. QuPath drops an object's measurements when its outline changes, and keeps its id;
     * ids of DualProto are UUIDs of version 5, those that QuPath gives are of version 4.
     *
     * @param classes  class of every region that the model found, by id; null if unknown
     */
    static String origin(String id, String className, boolean measured, Map<String, String> classes) {
        def known = classes != null && classes.containsKey(id)
        if (!known && !measured && !(id ==~ /.{8}-.{4}-5.*/))
            return 'drawn'
        if (!measured || (known && classes[id] != className))
            return 'changed'
        return known ? 'unchanged' : 'model'
    }

    /** Red, green, blue of a colour as QuPath stores it. */
    static List<Integer> colour(Integer packed) {
        return packed == null ? [128, 128, 128] : [16, 8, 0].collect { (packed >> it) & 255 }
    }

    /**
     * What to add for pixels of the whole slide (x, y); null if that is not known.
     *
     * @param cropped  place of the image in the slide, where QuPath's reader says so
     * @param record   record.json of the slide, or null
     */
    static List<Integer> offset(List cropped, Map record, int width, int height) {
        if (cropped != null)
            return cropped.collect { it as int }
        def slide = record?.slide
        def box = slide?.bounds
        if (box != null && [width, height] == [box.width, box.height].collect { Math.round(it as double) as int })
            return [box.x, box.y].collect { Math.round(it as double) as int }
        if (slide != null && [width, height] == [slide.width, slide.height].collect { Math.round(it as double) as int })
            return [0, 0]
        return null
    }

    /** Whether QuPath shows the image rotated or mirrored: then no offset leads to pixels of the whole slide. */
    static boolean isTurned(String server) {
        return server in ['RotatedImageServer', 'FlippedImageServer', 'AffineTransformImageServer']
    }

    /** Name of each image's file; images of the same name are told apart by their ids. */
    static List<String> fileNames(List<Map> images) {
        def safe = images.collect { it.file.replaceAll(/[\\\/:*?"<>|]/, '_') }
        def count = safe.countBy { it.toLowerCase() }
        return [images, safe].transpose().collect { image, name ->
            (count[name.toLowerCase()] > 1 ? "${name}--${image.id}.geojson" : "${name}.geojson").toString()
        }
    }

    /** Last part of an address, decoded: file:/a/my%20slide.svs is 'my slide.svs'. */
    static String fileName(URI uri) {
        def path = uri.getPath() ?: uri.getSchemeSpecificPart()
        return plain(path.substring(path.lastIndexOf('/') + 1))
    }

    /** macOS writes accents as two characters, others as one. */
    static String plain(String name) {
        return name == null ? null : Normalizer.normalize(name, Normalizer.Form.NFC)
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

    /** Status and note of an image that could be read. */
    static Map outcome(int features, File file) {
        if (features)
            return [status: 'written', note: file.name]
        return [status: 'nothing', note: file.exists() ? "${file.name} of an earlier export is still there" : '']
    }

    /** The table that is printed. */
    static String report(List<Map> rows) {
        def columns = ['image', 'status', 'written'] + ORIGINS + ['note']
        def cells = [columns] + rows.collect { row -> columns.collect { row[it] == null ? '' : row[it].toString() } }
        def widths = (0..<columns.size() - 1).collect { column -> cells.collect { it[column].size() }.max() }
        def lines = cells.collect { line ->
            ((0..<columns.size() - 1).collect { line[it].padRight(widths[it]) } + line[-1]).join('  ').trim()
        }
        def counts = rows.countBy { it.status }.collect { status, count -> "${count} ${status}" }
        lines << "DualProto export: ${counts ? counts.join(', ') : 'no image'}".toString()
        return lines.join('\n')
    }

    /** Why the run as a whole failed; null if it did not. Nothing written is a failure where the whole project was asked. */
    static String failure(List<Map> rows, boolean wholeProject) {
        def failed = rows.findAll { it.status == 'FAILED' }
        if (failed)
            return "${failed.size()} of ${rows.size()} images failed; first: ${failed[0].image}: ${failed[0].note}"
        if (wholeProject && rows.every { it.status == 'nothing' })
            return 'no image of the project has an annotation to write; only annotations with a class are (see UNCLASSIFIED)'
        return null
    }
}
