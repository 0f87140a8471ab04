package healthprobe

import (
	"cmp"
	"slices"
	"strconv"
	"unicode/utf8"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// outcome is what one probe means for its target's counters.
type outcome int

const (
	ignored outcome = iota // no verdict: nothing is counted
	success
	httpFailure
	tcpFailure
	timeoutFailure
)

// result returns the outcome as a summary names it.
func (o outcome) result() string {
	switch o {
	case ignored:
		return record.ResultIgnored
	case success:
		return record.ResultSuccess
	}
	return record.ResultFailure
}

// judge says what a probe's result means under an upstream's rules, and why in
// words. A status in both lists is a success and one in neither is ignored, as
// in Kong.
func judge(r hook.ProbeResult, c hook.ActiveCheck) (outcome, string) {
	why := cutText(r.Reason)
	switch r.Fault {
	case hook.FaultTCP:
		return tcpFailure, why
	case hook.FaultTimeout:
		return timeoutFailure, why
	case hook.FaultHTTP:
		return httpFailure, why
	case hook.FaultNone:
	default: // blocked, without a route, and whatever a later prober may report: not the target's doing
		return ignored, why
	}
	switch c.Type {
	case typeTCP:
		return success, "connected"
	case typeGRPC, typeGRPCS:
		if r.Serving == serving {
			return success, "gRPC health: " + cmp.Or(why, "SERVING")
		}
		return httpFailure, "gRPC health: " + cmp.Or(why, "status "+strconv.Itoa(r.Serving)+", not SERVING")
	}
	status := "status " + strconv.Itoa(r.Code)
	switch code := int64(r.Code); {
	case slices.Contains(c.HealthyStatuses, code):
		return success, status
	case slices.Contains(c.UnhealthyStatuses, code):
		return httpFailure, status
	}
	return ignored, status + " is neither in healthy.http_statuses nor in unhealthy.http_statuses"
}

// serving is SERVING of grpc.health.v1's ServingStatus.
const serving = 1

// maxReason bounds the reason of a result, in bytes: what a summary holds whole.
const maxReason = 250

func cutText(s string) string {
	if len(s) <= maxReason {
		return s
	}
	cut := maxReason
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// up reports whether a target in that state takes traffic. A target without a
// verdict does: Kong's targets start healthy.
func up(h hook.Health) bool { return h != hook.Unhealthy && h != hook.MostlyUnhealthy }

// step is the state machine of lua-resty-healthcheck: the state after an
// outcome, and what is to be told: hook.Healthy or hook.Unhealthy on a change
// between up and down, "" otherwise. So a target that wavers without reaching
// a threshold is not spoken of, and neither is a new one that is up.
//
// SinceMS is since when the target is up, or down, which wavering does not
// change.
//
// A limit of 0 means that its kind of outcome changes nothing; the one
// exception is the first success of a new target, which makes it healthy.
func step(s hook.ProbeState, o outcome, c hook.ActiveCheck, nowMS int64) (next hook.ProbeState, tell hook.Health) {
	next = s
	switch o {
	case success:
		switch {
		case s.Health == "":
			next.Health = hook.Healthy
			next.Success, next.HTTP, next.TCP, next.Timeout = 0, 0, 0, 0
		case c.Successes == 0 || s.Health == hook.Healthy:
			return s, ""
		default:
			next.Success++
			next.HTTP, next.TCP, next.Timeout = 0, 0, 0
			if next.Success >= c.Successes {
				next.Health = hook.Healthy
			} else if s.Health == hook.Unhealthy {
				next.Health = hook.MostlyUnhealthy
			}
		}
	case httpFailure, tcpFailure, timeoutFailure:
		counter, limit := failures(&next, o, c)
		if limit == 0 || s.Health == hook.Unhealthy {
			return s, ""
		}
		*counter++
		next.Success = 0
		if *counter >= limit {
			next.Health = hook.Unhealthy
		} else if s.Health == hook.Healthy {
			next.Health = hook.MostlyHealthy
		}
	}
	switch {
	case up(next.Health) != up(s.Health):
		tell = next.Health
		next.SinceMS, next.Reminded, next.RemindedMS = nowMS, 0, 0
	case s.Health == "" && next.Health != "":
		next.SinceMS = nowMS
	}
	return next, tell
}

// failures returns the counter of a kind of failure and its limit.
func failures(s *hook.ProbeState, o outcome, c hook.ActiveCheck) (counter *int64, limit int64) {
	switch o {
	case tcpFailure:
		return &s.TCP, c.TCPFailures
	case timeoutFailure:
		return &s.Timeout, c.Timeouts
	}
	return &s.HTTP, c.HTTPFailures
}
