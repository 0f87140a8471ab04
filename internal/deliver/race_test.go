//go:build race

package deliver_test

// Under the race detector each story takes ten times as long, and what it looks
// for shows in any of them.
const (
	everyNth     = 8
	modelTrials  = 30
	backlogRows  = 200
	stormEvents  = 1_000
	releasedRows = 1_100
)
