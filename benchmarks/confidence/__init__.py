"""Questions with known answers, to measure how well confidence tells right answers from wrong."""
