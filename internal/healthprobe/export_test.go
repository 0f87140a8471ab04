package healthprobe

import "eventhooks/internal/hook"

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
