package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/local"
)

// While one receiver hangs, all events of a message reach the others: however
// many the hanging one has waiting for a place. The hanging receiver answers
// only when that has happened, or when its hook has given it up.
func TestIsolation_aHangingReceiverHoldsUpNoOtherHook(t *testing.T) {
	w := start(t, local.Options{})
	healthy, hanging := newReceiver(t), newHanging(t)
	w.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["n"]}`, http.StatusCreated)
	w.hook(`{"source":"shop","event":"sold","handler":"webhook","config":{"timeout":30,"url":"` + hanging.URL + `"}}`)
	w.hook(`{"source":"shop","event":"sold","handler":"webhook","config":{"timeout":30,"url":"` + healthy.URL + `"}}`)
	const events = 200
	w.post("/events/shop/sold", "["+strings.Repeat(`{"n":1},`, events-1)+`{"n":1}]`)
	for i := range events {
		select {
		case <-healthy.got:
		case <-hanging.gaveUp:
			t.Fatalf("%d of %d events had reached the healthy receiver when an attempt at the hanging one had used up its time", i, events)
		}
	}
	if hanging.waiting() == 0 {
		t.Error("nothing hangs: nothing was tried")
	}
}

// hanging is a hook's target that does not answer.
type hanging struct {
	*httptest.Server
	gaveUp chan struct{} // a note of each request whose sender went away

	mu   sync.Mutex
	open int
}

func newHanging(t testing.TB) *hanging {
	h := &hanging{gaveUp: make(chan struct{}, 100_000)}
	over := make(chan struct{})
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // the server watches the connection from here on
		if bytes.Contains(body, []byte(`"kong:event_hooks"`)) {
			return // the ping that a new hook sends is answered
		}
		h.mu.Lock()
		h.open++
		h.mu.Unlock()
		select {
		case <-r.Context().Done():
			h.gaveUp <- struct{}{}
		case <-over:
		}
		h.mu.Lock()
		h.open--
		h.mu.Unlock()
	}))
	t.Cleanup(func() {
		close(over)
		h.Close()
	})
	return h
}

// waiting returns how many requests wait for an answer.
func (h *hanging) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// What BenchmarkIsolation offers, and allows.
const (
	isolationEvents = 1000
	isolationRate   = 150.0 // events/s
	isolationRounds = 3
	isolationFactor = 2
	// isolationFloor is a latency below which a factor tells of the machine's
	// other work, not of ours.
	isolationFloor = 50 * time.Millisecond
)

// BenchmarkIsolation measures how soon 1,000 events reach a healthy hook, from
// the moment they are due to be posted: alone, and beside two hooks that want
// the same events, of which one hangs for its whole timeout and one answers 500.
// They are offered at a steady rate, in posts of one to five, whether or not
// earlier ones were answered. The runs alternate, each on a system of its own,
// and the medians of their 99th percentiles are compared: with bad neighbours
// at most twice that without.
func BenchmarkIsolation(b *testing.B) {
	for _, timeout := range []int{1, 10} {
		b.Run(fmt.Sprintf("hangs=%ds", timeout), func(b *testing.B) {
			for b.Loop() {
				var alone, beside [][]time.Duration
				for range isolationRounds {
					alone = append(alone, isolationRun(b, 0))
					beside = append(beside, isolationRun(b, timeout))
				}
				report := func(name string, runs [][]time.Duration) time.Duration {
					var p50, p99 []time.Duration
					for _, run := range runs {
						p50, p99 = append(p50, percentile(run, 50)), append(p99, percentile(run, 99))
					}
					b.Logf("%-8s p50 %7.1f ms   p99 %8.1f ms (medians of %d runs; p99 of each: %v)", name, ms(median(p50)), ms(median(p99)), len(runs), p99)
					b.ReportMetric(ms(median(p50)), name+"-p50-ms")
					b.ReportMetric(ms(median(p99)), name+"-p99-ms")
					return median(p99)
				}
				a, with := report("alone", alone), report("beside", beside)
				b.ReportMetric(float64(with)/float64(a), "x")
				if with > max(isolationFactor*a, isolationFloor) {
					b.Errorf("beside a hook that hangs for %d s and one that answers 500, the 99th percentile is %.0f ms; want at most %d times the %.0f ms without",
						timeout, ms(with), isolationFactor, ms(a))
				}
			}
		})
	}
}

// isolationRun returns the latencies of one run. timeout is that of the hanging
// neighbour's hook in seconds, 0: there are no bad neighbours.
func isolationRun(b *testing.B, timeout int) []time.Duration {
	t := &scope{TB: b} // what a run leaves behind must not disturb the next one
	defer t.end()
	w := start(t, local.Options{})
	w.call("PUT", "/event-hooks/sources/shop/sold", `{"fields":["n"]}`, http.StatusCreated)
	a := newClocked(t)
	if timeout > 0 {
		down := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			rw.WriteHeader(http.StatusInternalServerError)
		}))
		t.Cleanup(down.Close)
		w.hook(fmt.Sprintf(`{"source":"shop","event":"sold","handler":"webhook","config":{"timeout":%d,"url":%q}}`, timeout, newHanging(t).URL))
		w.hook(fmt.Sprintf(`{"source":"shop","event":"sold","handler":"webhook","config":{"url":%q}}`, down.URL))
	}
	w.hook(fmt.Sprintf(`{"source":"shop","event":"sold","handler":"webhook","config":{"url":%q}}`, a.URL))
	return a.offer(t, w, isolationEvents, isolationRate)
}

// scope is a test whose cleanups can run before it ends.
type scope struct {
	testing.TB
	undo []func()
}

func (s *scope) Cleanup(f func()) { s.undo = append(s.undo, f) }

func (s *scope) end() {
	for _, f := range slices.Backward(s.undo) {
		f()
	}
}

// clocked is a hook's target that knows when each numbered event came first.
type clocked struct {
	*httptest.Server
	mu   sync.Mutex
	at   map[int]time.Time
	more chan struct{} // a note of each that is new
}

func newClocked(t testing.TB) *clocked {
	c := &clocked{at: map[int]time.Time{}, more: make(chan struct{}, 1_000_000)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		now := time.Now()
		_, after, found := bytes.Cut(body, []byte(`"n":`))
		digits, _, _ := bytes.Cut(after, []byte(`,`))
		digits, _, _ = bytes.Cut(digits, []byte(`}`))
		n, bad := strconv.Atoi(string(digits))
		if err != nil || !found || bad != nil {
			return // a ping
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.at[n].IsZero() {
			c.at[n] = now
			c.more <- struct{}{}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// offer posts events at a steady rate (per second), in posts of one to five, and
// returns how long after they were due to be posted they arrived. An event that
// does not come within a minute of the last post counts with that.
func (c *clocked) offer(t testing.TB, w *world, events int, rate float64) []time.Duration {
	t.Helper()
	due := make([]time.Time, events)
	begin := time.Now()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	note := strings.Repeat("x", 900) // about 1 KB an event
	for n := 0; n < events; {
		size := min(1+rand.IntN(5), events-n)
		var body strings.Builder
		at := begin.Add(time.Duration(float64(n+size-1) / rate * float64(time.Second))) // when the last of them has happened
		for i := range size {
			due[n+i] = at
			fmt.Fprintf(&body, `,{"n":%d,"note":%q}`, n+i, note)
		}
		n += size
		pause(t.Context(), time.Until(at)) // the offered rate
		wg.Go(func() {
			req, err := http.NewRequest("POST", w.url+"/events/shop/sold", strings.NewReader("["+body.String()[1:]+"]"))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+w.token)
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != http.StatusAccepted {
				t.Errorf("post is answered %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
wait:
	for range events {
		select {
		case <-c.more:
		case <-late.C:
			t.Error("not all events arrived within a minute")
			break wait
		}
	}
	end := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	took := make([]time.Duration, events)
	for n := range took {
		at := c.at[n]
		if at.IsZero() {
			at = end
		}
		took[n] = at.Sub(due[n])
	}
	return took
}

// percentile returns the value that p percent of the values do not exceed.
func percentile(ds []time.Duration, p int) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[max(0, (len(ds)*p+99)/100-1)]
}
