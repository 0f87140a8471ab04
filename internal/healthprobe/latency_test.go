package healthprobe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// deaths is a network in which each address dies at its own time, and a queue
// that notes when that is told.
type deaths struct {
	at map[string]time.Time

	mu   sync.Mutex
	told map[string]time.Time
}

func (d *deaths) Probe(_ context.Context, p hook.Probe) hook.ProbeResult {
	if time.Now().Before(d.at[p.IP]) {
		return ok
	}
	return refused
}

func (d *deaths) Send(_ context.Context, msgs []hook.Message) ([]int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range msgs {
		decoded, err := message.Decode(m.Body)
		if err != nil {
			return nil, err
		}
		for _, ev := range decoded.Events {
			var data struct{ IP string }
			if err := json.Unmarshal(ev.Data, &data); err != nil {
				return nil, err
			}
			d.told[data.IP] = time.Now()
		}
	}
	return nil, nil
}

// TestService_Run_tellsSoon lets targets die at every moment of a minute, with
// thresholds of 2, and measures how long it takes until that is told. A run
// begins each minute on the minute and probes for 55 s at most, so that it has
// time to write: a second probe fails at the latest after twice the interval,
// or after one and the rest of the minute in which no probe fits.
func TestService_Run_tellsSoon(t *testing.T) {
	const phases = 240
	for _, tt := range []struct {
		interval    time.Duration
		worst, mean time.Duration // arithmetically: the mean over all moments
	}{
		{time.Minute, 2 * time.Minute, 90 * time.Second},
		{10 * time.Second, 20 * time.Second, 15 * time.Second},
		// The last round is at 54 s: (53 x 1.5 s + 6.5 s + 6 x 4 s) / 60.
		{time.Second, 7 * time.Second, 1833 * time.Millisecond},
	} {
		t.Run(tt.interval.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
				d := &deaths{at: map[string]time.Time{}, told: map[string]time.Time{}}
				s := tt.interval.Seconds()
				all := []any{upstream(upstreamA, every(s, s))}
				began := time.Now()
				for i := range phases {
					ip := fmt.Sprintf("10.0.0.%d", i)
					all = append(all, target(upstreamA, fmt.Sprintf("t%03d", i), ip+":80"))
					d.at[ip] = began.Add(time.Minute + (2*time.Duration(i)+1)*time.Minute/(2*phases))
				}
				w.put(all...)
				svc := w.service(real, func(o *healthprobe.Options) { o.Prober, o.Queue = d, d })
				for i := range 5 {
					time.Sleep(time.Until(began.Add(time.Duration(i) * time.Minute)))
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if err := svc.Run(ctx, hook.UpstreamRange{}); err != nil {
						t.Error(err)
					}
					cancel()
				}

				var worst, sum time.Duration
				for ip, died := range d.at {
					told, is := d.told[ip]
					if !is {
						t.Fatalf("%s was not told", ip)
					}
					took := told.Sub(died)
					if took <= 0 || took > tt.worst {
						t.Errorf("dead at %s, told after %s; want at most %s", died.Sub(began), took, tt.worst)
					}
					worst, sum = max(worst, took), sum+took
				}
				mean := sum / phases
				t.Logf("interval %s: from death to event %s on average, %s at worst (arithmetically %s and %s)", tt.interval, mean, worst, tt.mean, tt.worst)
				if diff := (mean - tt.mean).Abs(); diff > tt.mean/50 {
					t.Errorf("%s on average; want %s", mean, tt.mean)
				}
			})
		})
	}
}
