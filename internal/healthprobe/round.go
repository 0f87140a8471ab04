package healthprobe

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// round probes addresses and takes note of what it saw.
func (v *visitor) round(ctx context.Context, due []*watched, first bool) {
	began := v.o.Now()
	results := v.probeAll(ctx, due)
	made, told, mute := 0, 0, 0
	for i, w := range due {
		r := results[i]
		if r == nil {
			continue
		}
		made++
		v.belief.saw(w.state.Address, *r)
		if tells(*r) {
			told++
		}
		if tells(*r) && silent(*r) {
			mute++
		}
	}
	v.count(metricProbes, made)
	v.once() // before the question: who waits for others must not be waited for
	v.tried, v.note = true, ""
	if told > 0 && mute == told {
		if doubt := v.belief.doubt(ctx, began, first); doubt != nil {
			if !isOwnNetwork(doubt) {
				return // the run ended while it waited
			}
			v.note = cutText(doubt.Error())
			v.count(metricNotJudged, told)
			v.o.Log.LogAttrs(ctx, slog.LevelWarn, "probes not judged",
				slog.String("upstream_id", v.ID), slog.Int("probes", told), slog.String("reason", v.note))
		}
	}
	for i, w := range due {
		if results[i] != nil { // else no time was left for it
			v.see(w, *results[i], began.UnixMilli())
		}
	}
}

// see takes note of one result.
func (v *visitor) see(w *watched, r hook.ProbeResult, beganMS int64) {
	o, reason := judge(r, v.Active)
	w.last = record.TargetSummary{
		LastMS: beganMS, Result: o.result(), Reason: reason, CertificateMS: r.CertificateMS,
		ConnectMS: ms(r.Connect), TLSMS: ms(r.TLS), FirstByteMS: ms(r.FirstByte),
	}
	switch {
	case r.Fault == hook.FaultBlocked:
		w.last.Result = record.ResultBlocked
	case v.note != "":
		w.last.Result = record.ResultIgnored
		return
	}
	if o != success && o != ignored {
		v.count(metricFailures, 1)
	}
	w.seen = &sighting{beganMS: beganMS, outcome: o, certificateMS: r.CertificateMS}
}

// probeAll probes addresses, as many at once as the upstream and the run
// allow, those first that have waited longest. nil stands for one that was not
// probed because its time did not fit, or whose result came from the run's own
// end.
func (v *visitor) probeAll(ctx context.Context, due []*watched) []*hook.ProbeResult {
	order := make([]int, len(due))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(due[a].last.LastMS, due[b].last.LastMS) })
	results := make([]*hook.ProbeResult, len(due))
	var wg sync.WaitGroup
	for _, i := range order {
		p := v.probe(due[i])
		leave, ok := v.places.enter(ctx, v.own)
		if !ok {
			break
		}
		if v.o.Now().Add(p.Timeout).After(v.end) {
			leave()
			continue
		}
		wg.Go(func() {
			defer leave()
			if r := v.o.Prober.Probe(ctx, p); ctx.Err() == nil {
				results[i] = &r
			}
		})
	}
	wg.Wait()
	return results
}

func (v *visitor) probe(w *watched) hook.Probe {
	p := hook.Probe{
		Type: v.Active.Type, IP: w.ip.String(), Port: w.port,
		Host: v.HostHeader, SNI: v.Active.HTTPSSNI, Path: v.Active.HTTPPath, Headers: v.Active.Headers,
		VerifyTLS: v.Active.HTTPSVerify, Service: v.Active.GRPCService,
		Timeout: timeout(v.Active, interval(v.Active, w.state.Health)),
	}
	if _, err := netip.ParseAddr(w.host); p.Host == "" && err != nil {
		p.Host = w.host // an address is the prober's to write
	}
	return p
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
