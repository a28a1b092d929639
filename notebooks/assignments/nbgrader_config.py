"""nbgrader's settings for the four assignments; run its commands in this folder."""

c = get_config()  # noqa: F821  (nbgrader calls this file with it)

c.CourseDirectory.course_id = "cxgrad_lite"
# A cell that runs longer is interrupted. Every test takes a few seconds at most, the first import of torch the longest.
c.ExecutePreprocessor.timeout = 20
c.Execute.timeout = 20
c.ExecutePreprocessor.interrupt_on_timeout = True
c.Execute.interrupt_on_timeout = True
# A student's print loop must not fill the disk.
c.LimitOutput.max_lines = 500
# nbgrader puts back locked cells that were edited, but those that were deleted only if asked to.
c.OverwriteCells.add_missing_cells = True
