package retry_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/retry"

	"github.com/google/go-cmp/cmp"
)

func TestJudge_everyStatus(t *testing.T) {
	for code := 100; code <= 999; code++ {
		want, wantReason := hook.Retryable, ""
		switch {
		case code/100 == 2:
			want = hook.Success
		case code == 410:
			want, wantReason = hook.Final, hook.ReasonGone
		}
		if got, reason := retry.Judge(code); got != want || reason != wantReason {
			t.Errorf("Judge(%d) = %v, %q; want %v, %q", code, got, reason, want, wantReason)
		}
	}
	for _, code := range []int{-1, 0, 99, 1000} {
		if got, reason := retry.Judge(code); got != hook.Retryable || reason != "" {
			t.Errorf("Judge(%d) = %v, %q; want retryable", code, got, reason)
		}
	}
}

func TestDefault(t *testing.T) {
	s := retry.Default()
	if len(s) != 11 || s[0] != 5*time.Second || s[10] != 12*time.Hour {
		t.Errorf("Default() = %v; want 11 waits from 5s to 12h", s)
	}
	var sum time.Duration
	for i, d := range s {
		sum += d
		if i > 0 && d < s[i-1] {
			t.Errorf("wait %d, %v, is shorter than the one before", i+1, d)
		}
	}
	if sum >= retry.MaxWait {
		t.Errorf("the waits add up to %v; want less than the %v of a delivery's life", sum, retry.MaxWait)
	}
	s[0] = 0
	if retry.Default()[0] == 0 {
		t.Error("Default() shares its array with its callers")
	}
}

func TestParse(t *testing.T) {
	got, err := retry.Parse(" 200ms, 1s ,2m,1h30m")
	want := retry.Schedule{200 * time.Millisecond, time.Second, 2 * time.Minute, 90 * time.Minute}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Parse: %v (-want +got):\n%s", err, diff)
	}
	if got, err := retry.Parse(strings.Repeat("1s,", retry.MaxRetries-1) + "120h"); err != nil || len(got) != retry.MaxRetries {
		t.Errorf("Parse of as many waits as may be = %d, %v", len(got), err)
	}
	for in, want := range map[string]string{
		"":            "at least one wait",
		"  ":          "at least one wait",
		"5s,":         `wait 2 of the retry schedule is ""`,
		"5s,,1m":      `wait 2 of the retry schedule is ""`,
		"5s,soon,1m":  `wait 2 of the retry schedule is "soon", not a duration`,
		"5":           `wait 1 of the retry schedule is "5", not a duration`,
		"1s;2s":       `wait 1 of the retry schedule is "1s;2s", not a duration`,
		"1s,0s":       `wait 2 of the retry schedule is "0s", it must be longer than 0`,
		"1s,2s,-3s":   `wait 3 of the retry schedule is "-3s", it must be longer than 0`,
		"121h":        `wait 1 of the retry schedule is "121h", longer than the 120h0m0s`,
		"9999999999h": `wait 1 of the retry schedule is "9999999999h", not a duration`,
		strings.Repeat("1s,", retry.MaxRetries) + "1s": "at most 49 waits, this one has 50",
	} {
		if got, err := retry.Parse(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func TestSchedule_String(t *testing.T) {
	if got, want := retry.Default().String(), "5s,30s,2m,10m,30m,1h,3h,6h,12h,12h,12h"; got != want {
		t.Errorf("Default() reads %s; want %s", got, want)
	}
	for _, s := range []string{"200ms,1s", "1.5s", "10s", "10m", "20h", "1h30m", "1h0m5s", "1m30s", "120h"} {
		if got, err := retry.Parse(s); err != nil || got.String() != s {
			t.Errorf("%s reads %s, %v once parsed", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("5s,30s,2m")
	f.Add(",")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := retry.Parse(s)
		if err != nil {
			return
		}
		if len(got) == 0 || len(got) > retry.MaxRetries || len(got) != strings.Count(s, ",")+1 {
			t.Errorf("Parse(%q) has %d waits", s, len(got))
		}
		if again, err := retry.Parse(got.String()); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%v, written and parsed again, is %v, %v", got, again, err)
		}
		for _, d := range got {
			if d <= 0 || d > retry.MaxWait {
				t.Errorf("Parse(%q) holds %v", s, d)
			}
		}
	})
}

func TestSchedule_Next(t *testing.T) {
	s := retry.Schedule{1 * time.Second, 2 * time.Second, 3 * time.Second}
	const last = -1
	for _, c := range []struct {
		name     string
		s        retry.Schedule
		max      int64
		attempts []time.Duration // the wait after attempt 0, 1, 2, …
	}{
		{"the schedule", s, 0, []time.Duration{1, 1, 2, 3, last, last}},
		{"one attempt means no retry", s, 1, []time.Duration{last, last, last}},
		{"fewer attempts than the schedule has", s, 3, []time.Duration{1, 1, 2, last, last}},
		{"as many attempts as the schedule has", s, 4, []time.Duration{1, 1, 2, 3, last}},
		{"more attempts than the schedule has repeat the last wait", s, 6, []time.Duration{1, 1, 2, 3, 3, 3, last}},
		{"no schedule, no retries", nil, 0, []time.Duration{last, last}},
		{"no schedule has no wait to repeat", nil, 5, []time.Duration{last, last}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for attempt, want := range c.attempts {
				got, ok := c.s.Next(int64(attempt), hook.Retry{MaxAttempts: c.max})
				if want == last {
					if ok || got != 0 {
						t.Errorf("Next(%d) = %v, %v; want 0s, false", attempt, got, ok)
					}
				} else if got != want*time.Second || !ok {
					t.Errorf("Next(%d) = %v, %v; want %v, true", attempt, got, ok, want*time.Second)
				}
			}
		})
	}
	if _, ok := s.Next(math.MaxInt64, hook.Retry{MaxAttempts: 50}); ok {
		t.Error("Next of an absurd attempt has a wait")
	}
}

func TestDue(t *testing.T) {
	never, full := func() float64 { return 0 }, func() float64 { return 1 }
	for _, c := range []struct {
		name       string
		wait       time.Duration
		retryAfter time.Duration
		jitter     func() float64
		want       time.Duration
	}{
		{"the wait", time.Minute, 0, never, time.Minute},
		{"jitter lengthens by a fifth at the most", 100 * time.Second, 0, full, 120 * time.Second},
		{"half of it", 100 * time.Second, 0, func() float64 { return 0.5 }, 110 * time.Second},
		{"a longer Retry-After wins", time.Minute, time.Hour, never, time.Hour},
		{"a shorter one does not", time.Hour, time.Minute, never, time.Hour},
		{"jitter lengthens Retry-After too", time.Second, 100 * time.Second, full, 120 * time.Second},
		{"Retry-After counts up to 12 hours", time.Minute, 13 * time.Hour, never, 12 * time.Hour},
		{"a wait of more than 12 hours stands", 24 * time.Hour, 13 * time.Hour, never, 24 * time.Hour},
		{"negative ones are none", -time.Second, -time.Hour, full, 0},
		{"a jitter below 0 does not shorten", time.Minute, 0, func() float64 { return -3 }, time.Minute},
		{"a jitter above 1 does not lengthen by more", 100 * time.Second, 0, func() float64 { return 9 }, 120 * time.Second},
		{"a jitter that is no number does nothing", time.Minute, 0, math.NaN, time.Minute},
		{"an absurd wait does not overflow", math.MaxInt64, 0, full, math.MaxInt64},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := retry.Due(c.wait, c.retryAfter, c.jitter); got != c.want {
				t.Errorf("Due(%v, %v) = %v; want %v", c.wait, c.retryAfter, got, c.want)
			}
		})
	}
	for range 1000 {
		if got := retry.Due(time.Minute, 0, nil); got < time.Minute || got > 72*time.Second {
			t.Fatalf("Due(1m) = %v; want 1m to 1m12s", got)
		}
	}
}

func TestAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"":                                 0,
		"0":                                0,
		"1":                                time.Second,
		" 120 ":                            2 * time.Minute,
		"00007":                            7 * time.Second,
		"43200":                            12 * time.Hour,
		"43201":                            12 * time.Hour,
		"9223372036":                       12 * time.Hour, // its nanoseconds overflow
		"9223372036854775807":              12 * time.Hour,
		"9223372036854775808":              12 * time.Hour, // no int64 any more
		strings.Repeat("9", 1000):          12 * time.Hour,
		"-1":                               0,
		"+5":                               0,
		"1.5":                              0,
		"1e3":                              0,
		"soon":                             0,
		"5, 6":                             0,
		"٣":                                0,
		"Sat, 21 Nov 2026 18:01:00 GMT":    time.Minute,
		"Saturday, 21-Nov-26 18:01:00 GMT": time.Minute,
		"Sat Nov 21 18:01:00 2026":         time.Minute,
		"Sat, 21 Nov 2026 17:59:00 GMT":    0,
		"Mon, 23 Nov 2026 18:00:00 GMT":    12 * time.Hour,
		"Fri, 31 Dec 9999 23:59:59 GMT":    12 * time.Hour,
		"Mon, 01 Jan 0001 00:00:00 GMT":    0,
	} {
		if got := retry.After(in, now); got != want {
			t.Errorf("After(%.40q) = %v; want %v", in, got, want)
		}
	}
}

func FuzzAfter(f *testing.F) {
	f.Add("120")
	f.Add("Sat, 21 Nov 2026 18:01:00 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if got := retry.After(s, time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)); got < 0 || got > retry.MaxRetryAfter {
			t.Errorf("After(%q) = %v; want 0 to 12h", s, got)
		}
	})
}
