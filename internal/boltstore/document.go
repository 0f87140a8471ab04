package boltstore

import (
	"maps"
	"slices"
	"strconv"

	"eventhooks/internal/hook"
)

// How each thing is written. What the key says is not in the document.

func recordDoc(r hook.Record) []byte {
	var w writer
	w.int(r.Changed)
	w.bool(r.Deleted)
	w.bytes(r.Data)
	return w.b
}

// A reader's err is known only once all has been read, so the functions below
// read first and then return.

func toRecord(kind, id string, i item) (hook.Record, error) {
	r := reader{b: i.doc}
	v := hook.Record{
		Kind: kind, ID: id, ExpiresAt: i.expiresAt,
		Changed: r.int(), Deleted: r.bool(), Data: r.bytes(),
	}
	return v, r.err
}

func writeEvent(w *writer, ev hook.Event) {
	w.text(ev.ID)
	w.text(ev.Source)
	w.text(ev.Event)
	w.time(ev.Time)
	w.bytes(ev.Data)
	w.text(ev.Workspace)
	w.text(ev.Traceparent)
}

func readEvent(r *reader) hook.Event {
	return hook.Event{
		ID: r.text(), Source: r.text(), Event: r.text(), Time: r.time(), Data: r.bytes(),
		Workspace: r.text(), Traceparent: r.text(),
	}
}

func rowDoc(d hook.Delivery) []byte {
	w := writer{b: make([]byte, 0, 256+len(d.Event.Data)+64*len(d.Attempts))}
	w.text(string(d.Status))
	w.text(d.Reason)
	for _, n := range [...]int64{
		d.Gen, d.Run, d.Attempt, d.Seq, d.Tries, d.Parks, d.Nudges,
		d.CreatedMS, d.DeadlineMS, d.DueMS, d.WakeMS, d.LeaseMS,
	} {
		w.int(n)
	}
	w.part(func(w *writer) { writeEvent(w, d.Event) })
	w.int(int64(len(d.Attempts)))
	for _, a := range d.Attempts {
		w.part(func(w *writer) {
			w.int(a.AtMS)
			w.int(a.TookMS)
			w.int(int64(a.Code))
			w.text(a.Error)
			w.text(a.IP)
		})
	}
	w.bool(d.Response != nil)
	if d.Response != nil {
		w.part(func(w *writer) {
			w.int(int64(d.Response.Code))
			w.text(d.Response.Body)
			w.int(int64(len(d.Response.Headers)))
			for _, k := range slices.Sorted(maps.Keys(d.Response.Headers)) {
				w.text(k)
				w.text(d.Response.Headers[k])
			}
		})
	}
	w.text(d.SlotKey)
	w.text(d.SnoozeKey)
	return w.b
}

func toRow(key []byte, i item) (hook.Delivery, error) {
	r := reader{b: i.doc}
	d := hook.Delivery{ExpiresAt: i.expiresAt, Status: hook.Status(r.text()), Reason: r.text()}
	d.HookID, _ = splitKey(key)
	for _, n := range [...]*int64{
		&d.Gen, &d.Run, &d.Attempt, &d.Seq, &d.Tries, &d.Parks, &d.Nudges,
		&d.CreatedMS, &d.DeadlineMS, &d.DueMS, &d.WakeMS, &d.LeaseMS,
	} {
		*n = r.int()
	}
	r.part(func(r *reader) { d.Event = readEvent(r) })
	if n := r.count(); n > 0 {
		d.Attempts = make([]hook.Attempt, n)
		for i := range d.Attempts {
			r.part(func(r *reader) {
				d.Attempts[i] = hook.Attempt{AtMS: r.int(), TookMS: r.int(), Code: int(r.int()), Error: r.text(), IP: r.text()}
			})
		}
	}
	if r.bool() {
		d.Response = new(hook.Response)
		r.part(func(r *reader) {
			d.Response.Code, d.Response.Body = int(r.int()), r.text()
			if n := r.count(); n > 0 {
				d.Response.Headers = make(map[string]string, n)
				for range n {
					k := r.text()
					d.Response.Headers[k] = r.text()
				}
			}
		})
	}
	d.SlotKey, d.SnoozeKey = r.text(), r.text()
	return d, r.err
}

func slotDoc(s hook.Slot) []byte {
	var w writer
	w.int(s.Rev)
	w.text(s.Sig)
	w.text(s.Seen)
	w.text(s.By)
	w.int(s.Suppressed)
	w.text(s.LastEvent)
	w.text(s.LastReason)
	return w.b
}

func toSlot(doc []byte) (hook.Slot, error) {
	r := reader{b: doc}
	v := hook.Slot{
		Rev: r.int(), Sig: r.text(), Seen: r.text(), By: r.text(),
		Suppressed: r.int(), LastEvent: r.text(), LastReason: r.text(),
	}
	return v, r.err
}

func windowDoc(s hook.Snooze) []byte {
	var w writer
	w.int(s.UntilMS)
	w.text(s.By)
	w.int(s.Suppressed)
	w.text(s.LastEvent)
	w.text(s.LastReason)
	return w.b
}

func toWindow(doc []byte) (hook.Snooze, error) {
	r := reader{b: doc}
	v := hook.Snooze{UntilMS: r.int(), By: r.text(), Suppressed: r.int(), LastEvent: r.text(), LastReason: r.text()}
	return v, r.err
}

func breakerDoc(b hook.Breaker) []byte {
	var w writer
	w.text(string(b.State))
	for _, n := range [...]int64{b.Rev, b.Count, b.SinceMS, b.LastMS, b.OpenedMS, b.WakeMS, b.Seq} {
		w.int(n)
	}
	w.text(b.Event)
	return w.b
}

func toBreaker(key, doc []byte) (hook.Breaker, error) {
	hookID, gen := splitKey(key)
	r := reader{b: doc}
	b := hook.Breaker{HookID: hookID, State: hook.BreakerState(r.text())}
	for _, n := range [...]*int64{&b.Rev, &b.Count, &b.SinceMS, &b.LastMS, &b.OpenedMS, &b.WakeMS, &b.Seq} {
		*n = r.int()
	}
	b.Event = r.text()
	var err error
	if b.Gen, err = strconv.ParseInt(gen, 10, 64); err != nil && r.err == nil {
		r.err = errCut
	}
	return b, r.err
}

// lease is a stored hook.ProbeLease. The summary has an expiry of its own: a
// lease that is taken again and again does not make an old summary new.
type lease struct {
	gen, untilMS     int64
	summary          []byte
	summaryExpiresAt int64 // Unix seconds
}

func leaseDoc(l lease) []byte {
	var w writer
	w.int(l.gen)
	w.int(l.untilMS)
	w.bytes(l.summary)
	w.int(l.summaryExpiresAt)
	return w.b
}

func toLease(doc []byte) (lease, error) {
	r := reader{b: doc}
	v := lease{gen: r.int(), untilMS: r.int(), summary: r.bytes(), summaryExpiresAt: r.int()}
	return v, r.err
}

func stateDoc(s hook.ProbeState) []byte {
	var w writer
	w.text(string(s.Health))
	w.int(s.SinceMS)
	w.int(s.Success)
	w.int(s.HTTP)
	w.int(s.TCP)
	w.int(s.Timeout)
	w.bool(s.Outbox != nil)
	if s.Outbox != nil {
		w.part(func(w *writer) { writeEvent(w, *s.Outbox) })
	}
	w.int(s.ProbedMS)
	w.int(s.Reminded)
	w.int(s.RemindedMS)
	w.int(s.CertificateMS)
	w.text(s.Ordered)
	w.text(s.Endpoint)
	return w.b
}

func toState(address string, doc []byte) (hook.ProbeState, error) {
	r := reader{b: doc}
	s := hook.ProbeState{
		Address: address, Health: hook.Health(r.text()), SinceMS: r.int(),
		Success: r.int(), HTTP: r.int(), TCP: r.int(), Timeout: r.int(),
	}
	if r.bool() {
		s.Outbox = new(hook.Event)
		r.part(func(r *reader) { *s.Outbox = readEvent(r) })
	}
	s.ProbedMS, s.Reminded, s.RemindedMS, s.CertificateMS = r.int(), r.int(), r.int(), r.int()
	s.Ordered, s.Endpoint = r.text(), r.text()
	return s, r.err
}

func orderDoc(o hook.HealthOrder) []byte {
	var w writer
	w.text(o.TargetID)
	w.text(o.IP)
	w.text(string(o.Health))
	return w.b
}

func toOrder(id string, doc []byte) (hook.HealthOrder, error) {
	r := reader{b: doc}
	o := hook.HealthOrder{ID: id, TargetID: r.text(), IP: r.text(), Health: hook.Health(r.text())}
	return o, r.err
}

func watchDoc(untilMS int64) []byte {
	var w writer
	w.int(untilMS)
	return w.b
}

func toWatch(doc []byte) (untilMS int64, err error) {
	r := reader{b: doc}
	untilMS = r.int()
	return untilMS, r.err
}

func claimDoc(c hook.IngestClaim) []byte {
	var w writer
	w.text(c.BodyHash)
	w.int(c.FirstSeenMS)
	w.bool(c.Pending)
	return w.b
}

func toClaim(token, key string, i item) (hook.IngestClaim, error) {
	r := reader{b: i.doc}
	v := hook.IngestClaim{
		TokenID: token, Key: key, ExpiresAt: i.expiresAt,
		BodyHash: r.text(), FirstSeenMS: r.int(), Pending: r.bool(),
	}
	return v, r.err
}

func useDoc(at int64) []byte {
	var w writer
	w.int(at)
	return w.b
}

func toUse(doc []byte) (at int64, err error) {
	r := reader{b: doc}
	at = r.int()
	return at, r.err
}
