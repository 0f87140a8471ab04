//go:build race

package lua

// underRace: the race detector's own memory would not fit a child.
const underRace = true
