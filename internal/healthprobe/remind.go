package healthprobe

import "eventhooks/internal/hook"

// remindsNow reports whether an address that is down is to be told of again: as
// many seconds as asked have passed since it went down, and since the last
// reminder.
func remindsNow(s hook.ProbeState, every, nowMS int64) bool {
	lastMS := max(s.SinceMS, s.RemindedMS)
	return every > 0 && s.Health != "" && !up(s.Health) && (nowMS-lastMS >= every*1000 || wrong(lastMS, nowMS))
}
