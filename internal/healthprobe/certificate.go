package healthprobe

import "time"

const day = 24 * time.Hour

// daysLeft returns the whole days until a moment, rounded down: -1 on the day
// after it.
func daysLeft(endMS, nowMS int64) int64 {
	left, d := endMS-nowMS, day.Milliseconds()
	if left < 0 {
		return (left - d + 1) / d
	}
	return left / d
}

// expiring reports whether the end of a certificate is to be told: it is near,
// or over, and is later than the one that was told last. So each certificate is
// told once, also while several are shown in turn behind one address.
func expiring(endMS, toldMS, days, nowMS int64) bool {
	return days > 0 && endMS > toldMS && daysLeft(endMS, nowMS) < days
}
