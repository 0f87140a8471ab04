package healthprobe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// errBusy: another run is at work on the upstream, and will do what is to be
// done.
var errBusy = errors.New("another run is at work")

// watched is one address of one target, and what is known of it.
type watched struct {
	target hook.Target
	host   string
	ip     netip.Addr // not valid when the name has no address that is known
	port   int

	state hook.ProbeState // as it is stored
	// last tells of the last probe; the rest of a TargetSummary is filled in
	// when the summary is made.
	last record.TargetSummary
	// dnsError is why the name gave no address when it was last asked for, and
	// dnsMS how long the answer took.
	dnsError string
	dnsMS    float64
	// seen is what this run saw and may still have to be written; nil when
	// there is nothing.
	seen *sighting
	off  bool // its target has weight 0
	lost bool // a write failed: what is stored is not known, and the next run reads it
}

// key is the address as in hook.ProbeState.
func (w *watched) key() string { return addressKey(w.target.ID, w.ip) }

func addressKey(targetID string, ip netip.Addr) string {
	if !ip.IsValid() {
		return targetID + "/"
	}
	return targetID + "/" + ip.String()
}

// visitor is a run's visit to one upstream.
type visitor struct {
	held
	plan
	once func() // says that the first round is over
	own  chan struct{}

	view   hook.ProbeView                  // as it was read last
	before record.Summary                  // of view
	states map[string]hook.ProbeState      // of view, by address
	last   map[string]record.TargetSummary // the newest known, by address

	watched []*watched      // in the order of the summary
	present map[string]bool // their addresses
	// learnt says of each target whether its addresses are known for certain: a
	// name may have others when it was not asked for, or did not answer.
	learnt map[string]bool
	tried  bool   // a round was probed
	note   string // what was wrong with the last round
	keptMS int64  // as record.Summary.KeptMS
}

// visit does all that is to be done for one upstream. While there is nothing to
// write it holds no lease.
func (r *run) visit(ctx context.Context, p plan) error {
	v := &visitor{
		held: held{run: r}, plan: p,
		once: sync.OnceFunc(r.belief.firstRoundOver), own: ownPlaces(p.Active.Concurrency),
	}
	defer v.once()
	err := v.visit(ctx)
	switch {
	case err == nil:
		v.remember()
	case errors.Is(err, errBusy), errors.Is(err, hook.ErrStale):
		err = nil // the other run does the rest; what this one saw is dropped
	}
	return errors.Join(append(v.errs, err)...)
}

func (v *visitor) visit(ctx context.Context) error {
	view, err := v.read(ctx, v.ID)
	if err != nil {
		return err
	}
	if view.UntilMS > v.o.Now().UnixMilli() {
		return errBusy
	}
	v.know(view)
	if err := v.look(ctx); err != nil {
		return err
	}
	if v.leftOver() {
		if err := v.take(ctx); err != nil {
			return err
		}
	}
	if err := v.rounds(ctx); err != nil {
		return err
	}
	return v.finish(ctx)
}

// know takes over what is stored, beside what this process remembers.
func (v *visitor) know(view hook.ProbeView) {
	v.view = view
	before, err := record.DecodeSummary(view.Summary)
	if err != nil {
		v.fail(err) // it decides nothing but when: everything is due
	}
	v.before = before
	v.states = make(map[string]hook.ProbeState, len(view.States))
	for _, s := range view.States {
		v.states[s.Address] = s
	}
	v.last = make(map[string]record.TargetSummary, len(before.Targets))
	for _, t := range before.Targets {
		v.last[t.TargetID+"/"+t.IP] = t
	}
	for key, t := range v.memory.of(v.ID) {
		if t.LastMS >= v.last[key].LastMS {
			v.last[key] = t
		}
	}
	nowMS := v.o.Now().UnixMilli()
	for key, t := range v.last {
		if wrong(t.LastMS, nowMS) {
			t.LastMS = 0
			v.last[key] = t
		}
	}
}

// meet fills in what is known of an address.
func (v *visitor) meet(w *watched) {
	w.state = v.stateOf(w)
	last := v.last[w.key()]
	if last.LastMS >= w.last.LastMS && (last.Hostname == w.host && last.Port == w.port || last.Hostname == "") {
		w.last = last
	}
	// Another run may have probed it since and died before its summary.
	if at := w.state.ProbedMS; at > w.last.LastMS && !wrong(at, v.o.Now().UnixMilli()) {
		w.last.LastMS = at
	}
}

// stateOf returns the state that is stored of an address. Of a target that had
// another host or port then, nothing is known but what is still to be sent.
func (v *visitor) stateOf(w *watched) hook.ProbeState {
	key, end := w.key(), net.JoinHostPort(w.host, strconv.Itoa(w.port))
	s := v.states[key]
	if s.Endpoint != end && s.Endpoint != "" {
		s = hook.ProbeState{Outbox: s.Outbox, Ordered: s.Ordered}
	}
	s.Address, s.Endpoint = key, end
	return s
}

// leftOver reports whether there was something to write before this run saw
// anything.
func (v *visitor) leftOver() bool {
	for _, s := range v.view.States {
		if s.Outbox != nil || v.gone(s) {
			return true
		}
	}
	for _, o := range v.view.Orders {
		if _, wait := v.whom(o); !wait {
			return true
		}
	}
	return false
}

// gone reports whether a state is that of an address that is no longer there.
func (v *visitor) gone(s hook.ProbeState) bool {
	id, _, _ := cutKey(s.Address)
	learnt, there := v.learnt[id]
	return !v.unreadable[id] && !v.present[s.Address] && (learnt || !there)
}

// take makes the upstream this run's to write, until the visit ends. What is
// stored may have changed since it was read, so it is read once more, and all
// that follows goes by that. Then it does what was left to do.
func (v *visitor) take(ctx context.Context) error {
	ok, err := v.acquire(ctx, v.ID)
	if err != nil {
		return err
	}
	if !ok {
		return errBusy
	}
	view, err := v.read(ctx, v.ID)
	if err != nil {
		// With the summary that is there: nothing was changed yet.
		return errors.Join(err, v.release(ctx))
	}
	v.know(view)
	for _, w := range v.watched {
		v.meet(w)
	}
	if err := v.sendLeft(ctx, v.view.States); err != nil {
		return err
	}
	for _, s := range v.view.States { // without what was sent
		v.states[s.Address] = s
	}
	for _, w := range v.watched {
		w.state = v.stateOf(w)
	}
	if err := v.carryOut(ctx); err != nil {
		return err
	}
	var gone []hook.ProbeState
	for _, s := range v.view.States {
		if v.gone(s) {
			gone = append(gone, s)
		}
	}
	return v.drop(ctx, gone)
}

// rounds probes what is due now and, while the run lasts, what becomes due
// more often than runs come.
func (v *visitor) rounds(ctx context.Context) error {
	for first := true; ; first = false {
		if !known(v.Active.Type) {
			v.tried, v.note = true, "not probed: probes of type "+strconv.Quote(v.Active.Type)+" are not supported"
			return nil
		}
		if due := v.dueNow(first); len(due) > 0 {
			v.round(ctx, due, first)
		}
		v.once()
		if err := v.act(ctx); err != nil {
			return err
		}
		next, ok := v.next()
		if !ok || wait(ctx, next.Sub(v.o.Now())) != nil {
			return nil
		}
	}
}

// act writes and tells what follows from what was seen, and from the time. The
// order of effects is: the state together with its event, the event, the state
// without it. A crash before the first leaves the change to be found again; one
// after it leaves an event that the next run sends.
func (v *visitor) act(ctx context.Context) error {
	nowMS := v.o.Now().UnixMilli()
	if !v.leased {
		wanted := false
		for _, w := range v.watched {
			next, _ := v.decide(w, nowMS)
			wanted = wanted || next != w.state
		}
		if !wanted {
			return nil
		}
		if err := v.take(ctx); err != nil {
			return err
		}
	}
	var all []change
	for _, w := range v.watched {
		next, what := v.decide(w, nowMS)
		w.seen = nil
		if next == w.state {
			continue
		}
		c, err := v.newChange(w, next, what)
		if err != nil {
			v.fail(err)
			continue
		}
		all = append(all, c)
	}
	return v.change(ctx, all)
}

func (v *visitor) decide(w *watched, nowMS int64) (hook.ProbeState, what) {
	if w.lost || w.state.Outbox != nil { // an outbox holds one event
		return w.state, nothing
	}
	reminds := !w.off && probed(v.Active) && v.note == "" && w.last.Result != record.ResultBlocked
	return decide(w.state, w.seen, v.Upstream, reminds, nowMS)
}

// finish writes what a person may read, if it says anything new or somebody wants
// to read it now, and gives the upstream back.
func (v *visitor) finish(ctx context.Context) error {
	if !v.leased {
		if ctx.Err() != nil {
			return nil // there is no time to write
		}
		nowMS := v.o.Now().UnixMilli()
		s := v.summary(nowMS)
		if !differs(v.before, s) && !v.keepDue(nowMS) && v.view.WatchedMS <= nowMS {
			v.countDown()
			return nil
		}
		if err := v.take(ctx); err != nil {
			return err
		}
		// What was seen meant nothing by what was stored when the visit began.
		if err := v.act(ctx); err != nil {
			return err
		}
	}
	if err := v.keep(ctx); err != nil {
		return err
	}
	data, err := record.EncodeSummary(v.summary(v.o.Now().UnixMilli()))
	if err != nil {
		return err
	}
	v.lease.Summary = data
	v.countDown()
	return v.release(ctx)
}

// keep writes all states that have not changed for a long time again, before
// the table forgets them: a target that has been down for weeks must still be
// told as back.
func (v *visitor) keep(ctx context.Context) error {
	nowMS := v.o.Now().UnixMilli()
	v.keptMS = v.before.KeptMS
	if !v.keepDue(nowMS) {
		return nil
	}
	var again []hook.ProbeState
	for _, w := range v.watched {
		if _, stored := v.states[w.state.Address]; stored && !w.lost {
			again = append(again, w.state)
		}
	}
	errs := len(v.errs)
	if _, err := v.put(ctx, again); err != nil {
		return err
	}
	if len(v.errs) == errs {
		v.keptMS = nowMS
	}
	return nil
}

func (v *visitor) keepDue(nowMS int64) bool {
	return nowMS-v.before.KeptMS >= keepEvery.Milliseconds() || wrong(v.before.KeptMS, nowMS)
}

// remember keeps what this process learnt for its next run.
func (v *visitor) remember() {
	nowMS := v.o.Now().UnixMilli()
	last := make(map[string]record.TargetSummary, len(v.watched))
	for _, w := range v.watched {
		if !w.lost {
			last[w.key()] = v.entry(w, nowMS)
		}
	}
	v.memory.set(v.ID, last)
}

// countDown counts what is down.
func (v *visitor) countDown() {
	down := 0
	for _, w := range v.watched {
		if !w.off && probed(v.Active) && !up(w.state.Health) {
			down++
		}
	}
	v.count(metricDown, down)
}

// read returns what is stored of an upstream.
func (h *held) read(ctx context.Context, id string) (hook.ProbeView, error) {
	defer take(h.calls)()
	view, err := h.o.Store.Probes(ctx, id, h.o.Now().UnixMilli())
	if err != nil {
		return view, fmt.Errorf("read probes: %w", err)
	}
	return view, nil
}
