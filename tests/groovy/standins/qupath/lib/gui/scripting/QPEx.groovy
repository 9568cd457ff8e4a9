package qupath.lib.gui.scripting

/** Stand-in: what a script sees of QuPath. */
class QPEx {

    private static Object currentProject, currentImage, currentGui

    static void use(project, image, gui) {
        currentProject = project
        currentImage = image
        currentGui = gui
    }

    static Object getProject() { currentProject }

    static Object getCurrentImageData() { currentImage }

    static Object getQuPath() { currentGui }
}
