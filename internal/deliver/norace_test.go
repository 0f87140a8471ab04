//go:build !race

package deliver_test

// How much the tests that go through every effect, or many stories, do;
// EVENTHOOKS_EVERY=1 takes every effect.
const (
	everyNth     = 4
	modelTrials  = 100
	backlogRows  = 800
	stormEvents  = 10_000
	releasedRows = 2_500
)
