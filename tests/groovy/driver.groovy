/*
 * Runs a list of jobs against the scripts in groovy/ in one JVM and writes what came of each.
 * Arguments: the folder of scripts, the folder of stand-ins, jobs.json, answers.json.
 *   {"call": NAME, "arguments": [...]}    a function of a script's class of decisions
 *   {"run": PROJECT, ...}                 a whole script on stand-ins for QuPath (standins/README.md)
 * "script" says which: import_dualproto unless it is given.
 */
import groovy.json.JsonOutput
import groovy.json.JsonSlurper

def (scripts, standins, jobsFile, answersFile) = args
def deciders = [import_dualproto: 'DualProtoImport', export_corrections: 'DualProtoExport', create_project: 'DualProtoCreate']
def texts = deciders.collectEntries { name, ignored -> [name, new File(scripts, "${name}.groovy").getText('UTF-8')] }

// QuPath puts its default imports above every script in this way
def prelude = 'import qupath.lib.objects.classes.PathClass;import qupath.lib.io.PathIO;import static qupath.lib.gui.scripting.QPEx.*;'
def loader = new GroovyClassLoader(getClass().classLoader)
loader.addClasspath(standins)
texts.each { name, text -> loader.parseClass(prelude + '\n' + text, "${name}.groovy") }
def scriptOf = { job -> job.script ?: 'import_dualproto' }

def call = { job ->
    def given = job.arguments
    def pure = loader.loadClass(deciders[scriptOf(job)])
    switch (job.call) {
        case 'fileName':
            return pure.fileName(new URI(given[0]))
        case 'match':
            def images = given[0].collect { [name: it.name, uris: it.uris.collect { uri -> new URI(uri) }] }
            def matches = pure.match(images, given[1])
            return [matches: matches.collect { [result: it.result?.name, status: it.status, note: it.note] },
                    unused: pure.unusedResults(matches, given[1])]
        case 'plan':
            def plan = pure.plan(*given)
            return [remove: plan.remove.sort(), stay: plan.stay.sort(), edited: plan.edited]
        case 'findSlides':
            return pure.findSlides(given.collect { new File(it) }, { new JsonSlurper().parseText(it) })
                    .collect { [file: it.file.path, mpp: it.mpp] }
        case 'refuseOld':
            return pure.refuseOld(new File(given[0]))
        case 'findResults':
            return pure.findResults(new File(given[0]), { new JsonSlurper().parseText(it) })
                    .collect { [name: it.name, file: it.file, path: it.path, problem: it.problem] }
        default:
            return pure.invokeMethod(job.call, given as Object[])
    }
}

class Viewer {
    final Object image

    Viewer(Object image) { this.image = image }

    Object getImageData() { image }
}

abstract class Gui {
    final Object project
    final List classes
    protected final List shownBy

    Gui(Object project, List images) {
        this.project = project
        shownBy = images.collect { new Viewer(it) }
        classes = project.getPathClasses().collect()
    }

    Object getImageData() { shownBy ? shownBy[0].getImageData() : null }

    List getAvailablePathClasses() { classes }
}

/** QuPath 0.4. */
class OldGui extends Gui {
    OldGui(Object project, List images) { super(project, images) }

    List<Viewer> getViewers() { shownBy }
}

/** QuPath 0.5 and later. */
class NewGui extends Gui {
    NewGui(Object project, List images) { super(project, images) }

    List<Viewer> getAllViewers() { shownBy }
}

def run = { job ->
    def pathClass = loader.loadClass('qupath.lib.objects.classes.PathClass')
    def pathObject = loader.loadClass('qupath.lib.objects.PathObject')
    def qupath = loader.loadClass('qupath.lib.gui.scripting.QPEx')
    def load = { loader.loadClass('qupath.lib.projects.ProjectIO').loadProject(new File(job.run), Object) }
    pathClass.forgetAll()
    def project = job.mode in ['loop', 'create'] ? null : load()
    def image = { id -> project.getImageList().find { it.getID() == id }.readImageData() }
    def opened = (job.opened ?: []).collect { image(it) }
    opened.each { it.hierarchy.addObjects((job.unsaved ?: []).collect { item -> pathObject.of(item) }) }
    def gui = job.mode in ['gui', 'gui-batch'] ? (job.gui == 'new' ? new NewGui(project, opened) : new OldGui(project, opened)) : null
    def current = job.mode in ['batch', 'gui-batch'] ? image(job.current) : (opened ? opened[0] : null)
    qupath.use(project, current, gui)

    def edited = texts[scriptOf(job)]
    (job.edit ?: [:]).each { name, value ->
        def before = edited
        def literal = value instanceof String ? "'${value}'" : value.toString()
        edited = edited.replaceFirst(/(@Field \w+ ${name} = )('[^']*'|\w+)/, '$1' + java.util.regex.Matcher.quoteReplacement(literal))
        assert edited != before
    }
    def out = new StringWriter()
    def bindings = new Binding(out: new PrintWriter(out, true))
    if (job.arguments != null)
        bindings.setVariable('args', job.arguments as String[])
    def error = null
    try {
        new GroovyShell(loader, bindings).evaluate(prelude + '\n' + edited, "${scriptOf(job)}.groovy".toString())
    } catch (Exception problem) {
        error = problem.toString()
    }
    if (job.mode == 'batch' && current != null)
        assert !current.getServer().isClosed()      // QuPath's to close
    if (!new File(job.run).isFile())
        return [error: error, output: out.toString()]
    def after = load()
    return [error: error, output: out.toString(), classes: after.getPathClasses().collect { it.toMap() },
            shown: gui?.getAvailablePathClasses()?.collect { it.toMap() },
            live: opened.collect { it.hierarchy.getAllObjects(false).collect { it.toMap() } },
            saved: after.getImageList().collectEntries { entry ->
                def data = new File(new File(job.run).parentFile, "data-${entry.getID()}.json")
                [entry.getID(), data.exists() ? data.text : null]
            }]
}

def answers = new JsonSlurper().parse(new File(jobsFile), 'UTF-8').collect { job ->
    try {
        return [value: job.call ? call(job) : run(job)]
    } catch (Throwable problem) {
        return [error: problem.toString()]
    }
}
new File(answersFile).setText(JsonOutput.toJson(answers), 'UTF-8')
