//go:build !race

package deliver_test

// How much the tests that go through every effect, or many stories, do;
// EVENTHOOKS_EVERY=1 takes every effect.
const (
	everyNth     = 2
	modelTrials  = 200
	backlogRows  = 2000
	stormEvents  = 10_000
	releasedRows = 2_500
)
