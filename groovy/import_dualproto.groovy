/*
 * Puts the regions that `dualproto-wsi segment ... -o RESULTS` found into a QuPath project. QuPath 0.4.4 to 0.7.
 *
 * In QuPath      Open your project, save your work, drag this file onto QuPath, set RESULTS below, choose Run > Run.
 *                Every image of the project that has a result gets its regions; all these images are saved.
 *                (Run > Run for project works too; each image then prints its own table.)
 * Command line   QuPath script -a PROJECT.qpproj -a RESULTS [-a dry-run] import_dualproto.groovy
 *                Exit code 0: everything imported; 1: something was not, the table says what. Close the project in
 *                QuPath first, or what is unsaved there and what is written here overwrite each other.
 *                QuPath script -p PROJECT.qpproj -a RESULTS import_dualproto.groovy
 *                Also works, image by image; but QuPath then exits with 0 even if an image failed: read the tables.
 *
 * Run it as often as you like: regions of an earlier import are replaced. Everything that you drew stays, and so does
 * every region whose outline you changed; a changed class is seen when the same results are imported again. Only
 * REPLACE_EDITED (-a replace-edited) puts the model's regions back: export your corrections first.
 */

import groovy.transform.Field
import java.awt.geom.AffineTransform
import java.awt.image.BufferedImage
import java.nio.file.NoSuchFileException
import java.text.Normalizer
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjectTools
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.ProjectIO

// ---------------------------------------------------------------------------------------------- what you may change
@Field String RESULTS = ''                  // the folder given to -o, e.g. 'C:/slides/results' (use / on Windows too)
@Field String PROJECT = ''                  // a .qpproj file; '' is the project that is open in QuPath
@Field boolean REPLACE = true               // replace regions of earlier imports; false: only add those not there yet
@Field boolean REPLACE_EDITED = false       // also replace regions that you changed by hand
@Field boolean LOCK = true                  // lock the regions, so that they are not moved by accident
@Field boolean DRY_RUN = false              // only say what would happen; nothing is changed or saved
@Field boolean RESOLVE_HIERARCHY = false    // nest objects by position; takes minutes from some thousand regions on
// ------------------------------------------------------------------------------------------------------------------

def options = DualProtoImport.readArguments(scriptArguments(), [project: PROJECT, results: RESULTS, replace: REPLACE,
        replaceEdited: REPLACE_EDITED, lock: LOCK, dryRun: DRY_RUN, resolve: RESOLVE_HIERARCHY])
def results = DualProtoImport.findResults(new File(options.results), { text -> GsonTools.getInstance().fromJson(text, Map) })
def project = openProject(options.project)
def opened = openedImages(project, options.project)

def entries = project.getImageList()
def matches = DualProtoImport.match(entries.collect { addresses(it) }, results)
def onlyOne = imageOfThisRun(project, options.project)
if (!options.dryRun)
    mergeClasses(project, matches.findAll { it.result != null }.collect { it.result })

def rows = []
[entries, matches].transpose().each { entry, match ->
    if (onlyOne == null || onlyOne == entry.getID()) {
        if (match.result != null)
            println "DualProto: ${entry.getImageName()} ..."
        rows << importEntry(entry, match, opened[entry.getID()], options)
    }
}
if (!options.dryRun)
    project.syncChanges()

def unused = onlyOne == null ? DualProtoImport.unusedResults(matches, results) : []
println DualProtoImport.report(rows, unused, project.getMaskImageNames())
def failure = DualProtoImport.failure(rows, onlyOne == null)
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

/** Images of the project that a viewer or this run holds open, by entry id: these objects must be changed, no copies. */
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

/** What matching needs to know of an image. */
Map addresses(entry) {
    def uris = []
    try {
        uris.addAll(entry.getURIs())
    } catch (IOException ignored) {
        // without addresses the image's name decides
    }
    return [uris: uris, name: entry.getOriginalImageName()]
}

/** Adds the model's classes to the project's list and gives them the model's colours. */
void mergeClasses(project, List<Map> used) {
    def classes = [] as LinkedHashSet
    used.each { result ->
        result.record.classes?.each { item ->
            def pathClass = PathClass.fromString(item.name)
            def (red, green, blue) = item.colour.collect { it as int }
            pathClass.setColor(red, green, blue)
            classes << pathClass
        }
    }
    def missing = classes.findAll { !project.getPathClasses().contains(it) }
    // Only ever add: QuPath ignores a list of the old length with other members
    project.setPathClasses(project.getPathClasses() + missing)
    def gui = getQuPath()
    if (gui != null && missing && gui.getProject().is(project)) {
        def shown = gui.getAvailablePathClasses()
        javafx.application.Platform.runLater { shown.addAll(missing.findAll { !shown.contains(it) }) }
    }
}

/** One image: never throws, so that one bad file does not stop the others. Returns its line of the table. */
Map importEntry(entry, Map match, opened, Map options) {
    def row = [image: entry.getImageName(), result: match.result?.name, status: match.status, note: match.note]
    if (match.result == null)
        return row
    def server = null
    try {
        def imageData = opened ?: entry.readImageData()
        if (imageData == null)
            throw new IOException('QuPath cannot open the image; set its place with Project > Check project URIs')
        // If saved data cannot be read QuPath hands out an empty image; saving that would wipe the user's work
        if (entry.hasImageData() && imageData.getLastSavedPath() == null)
            throw new IOException('QuPath cannot read the data saved for this image; nothing was changed')
        server = imageData.getServer()
        row += importObjects(imageData, server, match.result, options)
        if (!options.dryRun)
            entry.saveImageData(imageData)
    } catch (InterruptedException stopped) {
        throw stopped
    } catch (Throwable problem) {
        row.status = 'FAILED'
        row.note = DualProtoImport.reason(problem)
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
        // the image was read and saved before
    }
}

List readRegions(File file) {
    try {
        return PathIO.readObjects(file.toPath())
    } catch (IOException | RuntimeException problem) {
        throw new IOException("${file.name} cannot be read: ${DualProtoImport.reason(problem)}")
    }
}

/** Puts one result into one image. Checks everything before it changes anything. */
Map importObjects(imageData, server, Map result, Map options) {
    DualProtoImport.refuseTurned(server.getClass().getSimpleName())
    def shift = DualProtoImport.shift(result.record, server.getWidth(), server.getHeight())
    def objects = readRegions(DualProtoImport.regionFile(result))
    DualProtoImport.checkCount(objects.size(), result.record)
    if (shift != [0, 0]) {
        def move = AffineTransform.getTranslateInstance(shift[0], shift[1])
        objects = objects.collect { PathObjectTools.transformObjectRecursive(it, move, true, false) }
    }
    objects.findAll { it.isAnnotation() }.each { it.setLocked(options.lock) }   // others are always locked

    def hierarchy = imageData.getHierarchy()
    def present = hierarchy.getAllObjects(false)
    def plan = DualProtoImport.plan(present.collect { describe(it) }, objects.collect { describe(it) }, options)
    def old = present.findAll { plan.remove.contains(it.getID().toString()) }
    objects = objects.findAll { !plan.stay.contains(it.getID().toString()) }
    def kept = present.size() - old.size()
    if (!options.dryRun) {
        hierarchy.getSelectionModel().deselectObjects(old)
        hierarchy.removeObjects(old, true)      // true: what the user drew inside an old region stays
        hierarchy.addObjects(objects)
        def now = hierarchy.getAllObjects(false).size()
        if (now != kept + objects.size())
            throw new IllegalStateException("QuPath holds ${now} objects instead of ${kept + objects.size()}; not saved")
        if (options.resolve)
            hierarchy.resolveHierarchy()
    }
    return [status: options.dryRun ? 'would import' : 'imported', added: objects.size(), replaced: old.size(), kept: kept,
            note: DualProtoImport.note(shift, plan.edited)]
}

/** What the decisions need to know of an object. */
Map describe(PathObject object) {
    return [id: object.getID().toString(), className: object.getPathClass()?.toString(),
            measured: DualProtoImport.isMeasured(object.getMeasurementList().keySet())]
}


// -------------------------------------------------------------------------- decisions, without any class of QuPath

class DualProtoImport {

    static final String OWN_MEASUREMENT = 'DualProto '

    /** Parameters, with the values of -a in place of those at the top of the script. */
    static Map readArguments(List<String> arguments, Map defaults) {
        def switches = ['dry-run': [dryRun: true], 'no-replace': [replace: false],
                        'replace-edited': [replaceEdited: true], 'no-lock': [lock: false],
                        'resolve-hierarchy': [resolve: true]]
        def options = [:] + defaults
        def named = [] as Set
        arguments.collect { it.trim() }.findAll { it }.each { argument ->
            if (switches.containsKey(argument)) {
                options.putAll(switches[argument])
                return
            }
            def name = argument.toLowerCase().endsWith('.qpproj') ? 'project' : 'results'
            if (!named.add(name))
                throw new IllegalArgumentException("unexpected argument '${argument}': pass one project (.qpproj), one " +
                        "results folder and any of ${switches.keySet().join(', ')}")
            options[name] = argument
        }
        if (!options.results)
            throw new IllegalArgumentException('no results: set RESULTS at the top of the script, or pass -a RESULTS')
        return options
    }

    /** Results in a folder: one per record.json, in the folder itself or one below. Each has folder, file, path, record. */
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

    /** One result. A record that cannot be read is a result too, matched by its folder's regions and refused then. */
    static Map readResult(File folder, Closure parse) {
        def record = null
        def problem = null
        try {
            record = parse(new File(folder, 'record.json').getText('UTF-8'))
            if (!(record?.slide?.file))
                problem = "${folder.name}/record.json names no slide"
            else if (!record.classes.every { it.name instanceof String && it.colour?.size() == 3 })
                problem = "${folder.name}/record.json: every class needs a name and a colour of three numbers"
        } catch (Exception error) {
            problem = "${folder.name}/record.json cannot be read: ${reason(error)}"
        }
        if (problem != null)
            return [folder: folder, name: folder.name, file: nameFromRegions(folder), path: null, record: [:], problem: problem]
        return [folder: folder, name: folder.name, file: record.slide.file, path: record.slide.path, record: record, problem: null]
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

    private static String nameFromRegions(File folder) {
        def found = folder.list().find { it.endsWith('.geojson') || it.endsWith('.geojson.gz') }
        return found == null ? folder.name : found.replaceFirst(/\.geojson(\.gz)?$/, '')
    }

    /** The file with the regions. */
    static File regionFile(Map result) {
        def names = [result.file + '.geojson', result.file + '.geojson.gz']
        def name = names.find { new File(result.folder, it).isFile() }
        if (name == null)
            throw new IOException("${result.name}: neither ${names.join(' nor ')} is there; run segment with --formats geojson")
        return new File(result.folder, name)
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

    private static String plainPath(String path) {
        return plain(path)?.replace('\\', '/')?.replaceFirst(/^\/(?=[A-Za-z]:\/)/, '')
    }

    /**
     * Which result belongs to which image: same file name, else same name in the project. Exact, nothing is guessed.
     *
     * @param images  for each its uris and its (original) name
     * @return        for each image: result or null, status, note
     */
    static List<Map> match(List<Map> images, List<Map> results) {
        def byName = results.groupBy { plain(it.file) }
        def candidates = images.collect { image ->
            image.uris.collectMany { byName[fileName(it)] ?: [] }.unique { it.folder }
        }
        // A name in the project counts only for a result that no file name asks for
        def taken = candidates.flatten().collect { it.folder } as Set
        candidates = [images, candidates].transpose().collect { image, found ->
            found ?: (byName[plain(image.name)] ?: []).findAll { !taken.contains(it.folder) }
        }
        candidates = usePaths(images, candidates)
        def claims = candidates.flatten().countBy { it.folder }
        return candidates.collect { found -> decide(found, claims) }
    }

    /** Slides of the same name in several folders: where a result's recorded path is an image's own, it is that image's. */
    private static List<List> usePaths(List<Map> images, List<List> candidates) {
        def paths = images.collect { image -> image.uris.collect { plainPath(it.getPath()) }.findAll { it } as Set }
        def allPaths = paths.flatten() as Set
        return [paths, candidates].transpose().collect { own, found ->
            def exact = found.findAll { own.contains(plainPath(it.path)) }
            exact ?: found.findAll { !allPaths.contains(plainPath(it.path)) }
        }
    }

    private static Map decide(List<Map> found, Map claims) {
        def problem = null
        if (found.size() > 1)
            problem = "ambiguous: ${found.size()} results are of ${found[0].file}: ${found.collect { it.name }.join(', ')}"
        else if (found && claims[found[0].folder] > 1)
            problem = "ambiguous: ${claims[found[0].folder]} images of the project fit ${found[0].name}"
        else if (found)
            problem = found[0].problem
        if (problem != null)
            return [result: null, found: found, status: 'FAILED', note: problem.toString()]
        return [result: found ? found[0] : null, found: found, status: found ? '' : 'no result', note: '']
    }

    /** Results that no image of the project asks for. */
    static List<String> unusedResults(List<Map> matches, List<Map> results) {
        def used = matches.collectMany { it.found }.collect { it.folder } as Set
        return results.findAll { !used.contains(it.folder) }.collect { it.name }
    }

    /** Half a turn and a mirror leave the size as it is, but not what lies where. */
    static void refuseTurned(String server) {
        if (server in ['RotatedImageServer', 'FlippedImageServer', 'AffineTransformImageServer'])
            throw new IllegalArgumentException('the image was rotated or mirrored when it was added to the project; add it as it is')
    }

    /**
     * How far regions must move, in px (x, y), to lie right on the image as QuPath shows it.
     *
     * QuPath crops slides that state the box they were scanned in, unless they were opened with --no-crop.
     */
    static List<Integer> shift(Map record, int width, int height) {
        def slide = record.slide
        def whole = [slide?.width, slide?.height]
        if (whole.contains(null))
            throw new IllegalArgumentException('record.json does not say how large the slide is')
        whole = whole.collect { Math.round(it as double) as int }
        def box = slide.bounds ?: [x: 0, y: 0, width: slide.width, height: slide.height]
        def (x, y, w, h) = [box.x, box.y, box.width, box.height].collect { Math.round(it as double) as int }
        def image
        if ([width, height] == [w, h])
            image = [x, y]
        else if ([width, height] == whole)
            image = [0, 0]
        else
            throw new IllegalArgumentException("the image is ${width} x ${height} px in QuPath, the slide that was " +
                    "analysed ${whole[0]} x ${whole[1]} px" + ([w, h] == whole ? '' : " (${w} x ${h} px when cropped)") +
                    ': another image, or rotated or cropped in QuPath')
        if (!(record.frame in ['qupath', 'slide']))
            throw new IllegalArgumentException("record.json: frame is '${record.frame}', not qupath or slide")
        def file = record.frame == 'slide' ? [0, 0] : [x, y]
        return [file[0] - image[0], file[1] - image[1]]
    }

    /** QuPath reads a file of the wrong kind as no objects at all. */
    static void checkCount(int read, Map record) {
        if (read == 0 && record.regions != 0)
            throw new IOException("no region could be read; record.json counts ${record.regions}")
    }

    /** Whether an object carries a measurement of DualProto. */
    static boolean isMeasured(Collection<String> measurements) {
        return measurements.any { it.startsWith(OWN_MEASUREMENT) }
    }

    /**
     * What becomes of the objects of an image.
     *
     * @param present  objects of the image: for each its id, class and whether it carries a measurement of DualProto
     * @param regions  the same of the file's
     * @return         ids of present objects to remove and of those that stay, and how many of the latter are edited
     */
    static Map plan(List<Map> present, List<Map> regions, Map options) {
        def incoming = regions.collectEntries { [it.id, it] }
        def edited = present.findAll { isEdited(it, incoming[it.id]) }.collect { it.id } as Set
        def remove = present.findAll { object ->
            if (!options.replace)
                return false
            return edited.contains(object.id) ? options.replaceEdited : object.measured || incoming.containsKey(object.id)
        }.collect { it.id } as Set
        def stay = present.collect { it.id }.findAll { !remove.contains(it) } as Set
        return [remove: remove, stay: stay, edited: edited.count { stay.contains(it) }]
    }

    /**
     * Whether a region of DualProto was changed by hand. QuPath drops an object's measurements when its outline changes,
     * and keeps its id; ours are UUIDs of version 5, QuPath's own of version 4.
     */
    static boolean isEdited(Map object, Map region) {
        if (region == null)
            return !object.measured && object.id ==~ /.{8}-.{4}-5.*/
        return object.measured != region.measured || object.className != region.className
    }

    /** What the table says of an image that went well. */
    static String note(List<Integer> shift, int edited) {
        def notes = []
        if (shift != [0, 0])
            notes << "moved by ${shift[0]}, ${shift[1]} px (image opened without cropping, or --frame slide)"
        if (edited)
            notes << "${edited} changed by hand kept (replace-edited replaces them)"
        return notes.join('; ')
    }

    /** The table that is printed. */
    static String report(List<Map> rows, List<String> unused, boolean masked) {
        def head = ['image', 'result', 'status', 'regions', 'replaced', 'kept', 'note']
        def cells = [head] + rows.collect { row ->
            [row.image, masked && row.result ? '(masked)' : row.result, row.status, row.added, row.replaced, row.kept, row.note]
                    .collect { it == null ? '' : it.toString() }
        }
        def widths = (0..<head.size() - 1).collect { column -> cells.collect { it[column].size() }.max() }
        def lines = cells.collect { line ->
            ((0..<head.size() - 1).collect { line[it].padRight(widths[it]) } + line[-1]).join('  ').trim()
        }
        if (unused)
            lines << "Results without an image here: ${unused.join(', ')}".toString()
        def counts = rows.countBy { it.status }.collect { status, count -> "${count} ${status}" }
        lines << "DualProto import: ${counts ? counts.join(', ') : 'no image'}".toString()
        return lines.join('\n')
    }

    /** Why the run as a whole failed; null if it did not. Nothing imported is a failure where the whole project was asked. */
    static String failure(List<Map> rows, boolean wholeProject) {
        def failed = rows.findAll { it.status == 'FAILED' }
        if (failed)
            return "${failed.size()} of ${rows.size()} images failed; first: ${failed[0].image}: ${failed[0].note}"
        if (wholeProject && rows.every { it.status == 'no result' })
            return 'no image of the project has a result: the names of the slides differ from those of the images'
        return null
    }
}
