// Package retry decides whether a failed attempt may cure itself and how long
// to wait before the next one. It never waits itself.
package retry

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"eventhooks/internal/hook"
)

// Schedule holds the waits between the attempts of a delivery: the first is
// the wait after the first attempt. Its length is the number of retries. The
// zero value has no retries.
type Schedule []time.Duration

// Default returns the schedule that applies when a deployment names none: 11
// retries over some two days.
func Default() Schedule {
	return Schedule{
		5 * time.Second, 30 * time.Second,
		2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour,
		12 * time.Hour, 12 * time.Hour, 12 * time.Hour,
	}
}

// Limits of a schedule and of what a receiver may ask for.
const (
	// MaxRetries goes with the 50 attempts that a hook may ask for.
	MaxRetries = 49
	// MaxWait is the greatest age of a delivery: a longer wait would only
	// ever end it.
	MaxWait = 5 * 24 * time.Hour
	// MaxRetryAfter bounds what a receiver's Retry-After is good for.
	MaxRetryAfter = 12 * time.Hour
	// jitterShare is how much of a wait jitter may add.
	jitterShare = 0.2
)

// Parse reads a schedule as settings and flags write it: durations of Go's
// form, separated by commas, "5s,30s,2m". Each is longer than 0 and at most
// MaxWait; there are 1 to MaxRetries. The error names the element.
func Parse(s string) (Schedule, error) {
	if strings.TrimSpace(s) == "" {
		return nil, fmt.Errorf("a retry schedule needs at least one wait, such as 5s,30s,2m")
	}
	parts := strings.Split(s, ",")
	if len(parts) > MaxRetries {
		return nil, fmt.Errorf("a retry schedule has at most %d waits, this one has %d", MaxRetries, len(parts))
	}
	out := make(Schedule, 0, len(parts))
	for i, p := range parts {
		p = strings.TrimSpace(p)
		d, err := time.ParseDuration(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("wait %d of the retry schedule is %q, not a duration such as 30s, 2m or 1h", i+1, p)
		case d <= 0:
			return nil, fmt.Errorf("wait %d of the retry schedule is %q, it must be longer than 0", i+1, p)
		case d > MaxWait:
			return nil, fmt.Errorf("wait %d of the retry schedule is %q, longer than the %v that a delivery may take", i+1, p, MaxWait)
		}
		out = append(out, d)
	}
	return out, nil
}

// String writes the schedule as Parse reads it: "5s,30s,2m".
func (s Schedule) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		text := d.String() // with the zeros of smaller units: 2m0s, 1h0m0s
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		parts[i] = text
	}
	return strings.Join(parts, ",")
}

// Next returns the wait after the attempt-th attempt of a run (the first is
// 1), or false when that was the last. A hook's MaxAttempts counts attempts,
// so 1 means no retry; where it asks for more than the schedule has, the last
// wait repeats. An empty schedule has no wait to repeat, hence no retries.
func (s Schedule) Next(attempt int64, h hook.Retry) (time.Duration, bool) {
	attempt = max(attempt, 1)
	last := int64(len(s)) + 1
	if h.MaxAttempts > 0 {
		last = h.MaxAttempts
	}
	if attempt >= last || len(s) == 0 {
		return 0, false
	}
	return s[min(attempt, int64(len(s)))-1], true
}

// Due returns how long to wait: the longer of the schedule's wait and the
// receiver's Retry-After (which counts up to MaxRetryAfter), lengthened by up
// to 20 % so that what failed together does not come back together. It is
// never shorter than either. jitter returns a number from 0 to 1; nil means
// rand.Float64.
func Due(wait, retryAfter time.Duration, jitter func() float64) time.Duration {
	if jitter == nil {
		jitter = rand.Float64
	}
	wait = max(wait, min(retryAfter, MaxRetryAfter), 0)
	share := jitter()
	if !(share > 0) { // also not a number
		return wait
	}
	longer := wait + time.Duration(float64(wait)*jitterShare*min(share, 1))
	return max(wait, longer) // an absurd wait overflows
}

// After reads a Retry-After header: whole seconds, or a date, of which now is
// taken off. The result is at most MaxRetryAfter; 0 for what is negative,
// past, or neither.
func After(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if isDigits(value) {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n > int64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter // more than an int64 holds is certainly more than that
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Judge says what a receiver's status code means: 2xx is success, 410 Gone is
// final (reason hook.ReasonGone), everything else may cure itself: a receiver
// that answers 404 today may be deployed tomorrow, and redirects are not
// followed.
func Judge(code int) (v hook.Verdict, reason string) {
	switch {
	case code >= 200 && code <= 299:
		return hook.Success, ""
	case code == http.StatusGone:
		return hook.Final, hook.ReasonGone
	}
	return hook.Retryable, ""
}
