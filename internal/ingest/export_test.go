package ingest

// Patterns are the paths that the service answers, each to POST.
func Patterns() []string { return patterns }
