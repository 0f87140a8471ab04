package healthprobe

import "eventhooks/internal/hook"

// sighting is what one probe of this run means for its address.
type sighting struct {
	beganMS       int64 // when its round began
	outcome       outcome
	certificateMS int64 // as hook.ProbeResult.CertificateMS
}

// what is told of an address.
type what int

const (
	nothing     what = iota
	transition       // it went down, or came back
	certificate      // its certificate is about to end
	reminder         // it is still down
	order            // an operator said what it is
)

// decide returns the state after what was seen, if anything was, and after the
// time that has passed, and what is to be told with it. An outbox holds one
// event: what else there is to tell is still there next time. The state given
// has an empty one.
func decide(s hook.ProbeState, seen *sighting, u hook.Upstream, reminds bool, nowMS int64) (hook.ProbeState, what) {
	next := s
	if seen != nil && counts(*seen, s, u.Active, nowMS) {
		var tell hook.Health
		next, tell = step(s, seen.outcome, u.Active, seen.beganMS)
		expires := tell == "" && expiring(seen.certificateMS, s.CertificateMS, u.Active.CertificateDays, nowMS)
		if expires {
			next.CertificateMS = seen.certificateMS
		}
		if next != s {
			next.ProbedMS = seen.beganMS
		}
		switch {
		case tell != "":
			return next, transition
		case expires:
			return next, certificate
		}
	}
	if reminds && remindsNow(next, u.RemindEvery, nowMS) {
		next.Reminded++
		next.RemindedMS = nowMS
		return next, reminder
	}
	return next, nothing
}

// counts reports whether a probe says something new. Another run may have seen
// the same moment and written it down, an operator may have had a word since it
// began, or this process may have stood still since.
func counts(seen sighting, s hook.ProbeState, c hook.ActiveCheck, nowMS int64) bool {
	every := interval(c, s.Health)
	again := seen.beganMS-s.ProbedMS >= (every-slack(every)).Milliseconds() || wrong(s.ProbedMS, nowMS)
	since := seen.beganMS >= s.SinceMS || wrong(s.SinceMS, nowMS)
	return again && since && nowMS-seen.beganMS <= leaseTime.Milliseconds()
}
