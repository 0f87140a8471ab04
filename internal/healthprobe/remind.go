package healthprobe

import "eventhooks/internal/hook"

// remindsNow reports whether an address that is down is to be told of again: as
// many seconds as asked have passed since it went down, and since the last
// reminder.
func remindsNow(s hook.ProbeState, every, nowMS int64) bool {
	return every > 0 && s.Health != "" && !up(s.Health) && nowMS-max(s.SinceMS, s.RemindedMS) >= every*1000
}
