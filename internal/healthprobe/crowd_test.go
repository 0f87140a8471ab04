package healthprobe_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// slowMachine is a network whose targets are all well, and answer at once, seen
// from a machine that does one thing at a time and has much to do for each.
type slowMachine struct {
	processor chan struct{}
	work      time.Duration
	late      int
}

func (m *slowMachine) Probe(_ context.Context, p hook.Probe) hook.ProbeResult {
	began := time.Now()
	for range 4 { // in turns with the others
		m.processor <- struct{}{}
		time.Sleep(m.work / 4)
		<-m.processor
		time.Sleep(time.Millisecond)
	}
	m.processor <- struct{}{}
	defer func() { <-m.processor }()
	if time.Since(began) > p.Timeout {
		m.late++
		return hook.ProbeResult{Fault: hook.FaultTimeout}
	}
	return ok
}

// A function of 512 MB has 0.29 of a processor: a TLS handshake of a millisecond
// and a half takes 5 ms of its time.
func TestService_Run_findsNoneLateThatWaitsForTheProcessor(t *testing.T) {
	for _, work := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 7 * time.Millisecond} {
		t.Run(work.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
				var all []any
				for u := range 20 {
					id := fmt.Sprintf("0f4e5f6a-0000-4000-8000-%012d", u)
					all = append(all, upstream(id))
					for i := range 50 {
						all = append(all, target(id, fmt.Sprintf("t%d", i), fmt.Sprintf("10.0.%d.%d:80", u, i)))
					}
				}
				w.put(all...)
				m := &slowMachine{processor: make(chan struct{}, 1), work: work}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := w.service(real, func(o *healthprobe.Options) { o.Prober = m }).Run(ctx, hook.UpstreamRange{}); err != nil {
					t.Error(err)
				}
				if m.late > 0 {
					t.Errorf("%d of 1000 targets that are well were found late", m.late)
				}
			})
		})
	}
}
