package healthprobe

import (
	"maps"
	"slices"

	"eventhooks/internal/hook"
)

// Step runs the state machine with a probe's result.
func Step(s hook.ProbeState, r hook.ProbeResult, c hook.ActiveCheck, nowMS int64) (next hook.ProbeState, tell hook.Health) {
	o, _ := judge(r, c)
	return step(s, o, c, nowMS)
}

// Judge returns a result's meaning as a summary names it, and why.
func Judge(r hook.ProbeResult, c hook.ActiveCheck) (result, reason string) {
	o, reason := judge(r, c)
	return o.result(), reason
}

// Cut cuts upstreams, given by how many targets each has.
func Cut(targets map[string]int, limit int) []hook.UpstreamRange {
	var plans []plan
	for _, id := range slices.Sorted(maps.Keys(targets)) {
		plans = append(plans, plan{Upstream: hook.Upstream{ID: id}, targets: make([]hook.Target, targets[id])})
	}
	return cut(plans, limit)
}

// Contains reports whether an upstream belongs to a part.
func Contains(part hook.UpstreamRange, id string) bool { return contains(part, id) }

// DaysLeft returns the whole days until a moment.
func DaysLeft(endMS, nowMS int64) int64 { return daysLeft(endMS, nowMS) }
