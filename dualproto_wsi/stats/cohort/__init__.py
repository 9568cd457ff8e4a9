"""From measures of slides to numbers of a cohort."""
