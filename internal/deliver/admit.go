package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"eventhooks/internal/hook"
	"eventhooks/internal/match"
)

// What bounds the units judged in one admission: its rows, windows and slot are
// one transaction, in DynamoDB of at most 100 items and 4 MB. An event's data
// may be 256 KB.
const (
	admitRows  = 45
	admitBytes = 3 << 20
)

// groupsAtOnce bounds how many groups of a hook are judged at the same time.
const groupsAtOnce = 16

// judgements bounds how often a group is judged again because another function
// judged its events' neighbours at the same time.
const judgements = 8

// admitAll judges the units of hooks with on_change or snooze and returns the
// admitted ones, each with its row: one chain for each slot.
func (b *batch) admitAll(ctx context.Context, byHook map[string][]unit) (chains [][]unit) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, units := range byHook {
		wg.Go(func() {
			places := make(chan struct{}, groupsAtOnce)
			for _, group := range b.groups(units) {
				places <- struct{}{}
				wg.Go(func() {
					defer func() { <-places }()
					chain := b.admitGroup(ctx, group)
					mu.Lock()
					defer mu.Unlock()
					if len(chain) > 0 {
						chains = append(chains, chain)
					}
				})
			}
		})
	}
	wg.Wait()
	return chains
}

// judged is a unit and its keys.
type judged struct {
	unit
	keys match.Keys
}

// groups divides the units of one hook by what must be judged together: the
// slot, or without on_change the snooze key. Within a group they are in the
// order of their ids, each once.
func (b *batch) groups(units []unit) [][]judged {
	by := map[string][]judged{}
	for _, u := range units {
		k, err := match.KeysOf(u.h, b.s.hooks.source(u.ev), u.ev)
		if err != nil {
			b.fail(u.msg, fmt.Errorf("event %s: %w", u.ev.ID, err))
			continue
		}
		group := k.Snooze
		if u.h.ComparesChanges() {
			group = k.Slot
		} else {
			k.Slot = ""
		}
		if u.h.Snoozed() == 0 {
			k.Snooze = ""
		}
		by[group] = append(by[group], judged{u, k})
	}
	out := make([][]judged, 0, len(by))
	for _, name := range slices.Sorted(maps.Keys(by)) {
		g := by[name]
		slices.SortStableFunc(g, func(a, c judged) int { return cmp.Compare(a.ev.ID, c.ev.ID) })
		// A message that came twice in one batch is judged once.
		g = slices.CompactFunc(g, func(a, c judged) bool { return a.ev.ID == c.ev.ID })
		out = append(out, g)
	}
	return out
}

// admitGroup judges one group until its judgement holds, and returns the units
// to attempt, in the order of their ids.
func (b *batch) admitGroup(ctx context.Context, group []judged) []unit {
	var admitted []unit
	var m *match.Memory // nil: to be read
	fresh := false      // forget what is remembered of open windows, read instead
	for tries := 0; len(group) > 0; {
		var units []unit
		var again, rest []judged
		err := error(nil)
		switch {
		case tries == judgements:
			err = fmt.Errorf("admit events of hook %s: %w", group[0].h.ID, hook.ErrBusy)
		case m == nil:
			m, err = b.s.remember(ctx, group, fresh)
		}
		if err == nil {
			units, again, rest, err = b.judge(ctx, group, m)
		}
		var c *hook.Conflict
		switch {
		case err == nil && len(again) == 0:
			// What was just stored is what is remembered: the rest needs no read.
			admitted, group = append(admitted, units...), rest
			continue
		case err == nil:
			admitted, group = append(admitted, units...), inOrder(again, rest)
		case errors.As(err, &c) && c.Row >= 0 && errors.Is(err, hook.ErrExists):
			// Admitted before: its row carries it. The others are judged again.
			key := units[c.Row].key()
			group = slices.DeleteFunc(slices.Clone(group), func(j judged) bool { return j.key() == key })
		case !errors.Is(err, hook.ErrStale):
			for _, j := range group {
				b.fail(j.msg, err)
			}
			return admitted
		}
		tries++
		m, fresh = nil, true
	}
	return admitted
}

func inOrder(a, b []judged) []judged {
	all := append(a, b...)
	slices.SortFunc(all, func(a, c judged) int { return cmp.Compare(a.ev.ID, c.ev.ID) })
	return all
}

// judge decides for a group and stores the decision; m is what is remembered,
// and afterwards what was stored. hook.ErrStale means that m was no longer true
// and that neither slot, rows nor new windows were stored; windows that were open
// may have counted what they dropped all the same, and count it once more when it
// is judged again. The units returned are those of the admission's rows, also
// beside an error; again are those that were dropped for a window which turned out
// not to be open any more, and rest those that did not fit one admission.
func (b *batch) judge(ctx context.Context, group []judged, m *match.Memory) (admitted []unit, again, rest []judged, err error) {
	s, h := b.s, group[0].h
	now := s.o.Now()
	candidates := make([]match.Candidate, len(group))
	for i, j := range group {
		candidates[i] = match.Candidate{ID: j.ev.ID, Keys: j.keys}
	}
	r := match.Judge(h, candidates, *m, now.UnixMilli())
	if n := fitting(group, r.Verdicts); n < len(group) {
		group, rest = group[:n], group[n:]
		r = match.Judge(h, candidates[:n], *m, now.UnixMilli())
	}

	a := hook.Admission{HookID: h.ID, NowMS: now.UnixMilli()}
	for i, v := range r.Verdicts {
		if v != match.Admit {
			continue
		}
		j := group[i]
		d := s.claimedRow(ctx, h, j.ev)
		d.SlotKey, d.SnoozeKey = j.keys.Slot, j.keys.Snooze
		u := j.unit
		u.row = &d
		a.Rows = append(a.Rows, d)
		admitted = append(admitted, u)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Opened)) {
		a.Snoozes = append(a.Snoozes, hook.SnoozeClaim{Key: key, Snooze: r.Windows[key], ExpiresAt: r.Windows[key].UntilMS/1000 + int64(Retention.Seconds())})
	}
	var shut map[string]bool
	if h.ComparesChanges() {
		// Before the slot goes on: an event that was dropped for a window which
		// is not open any more would be stale behind a newer one of its slot. If the
		// slot is not as it was read, the windows have counted too much: better than
		// an event that nobody is told of.
		if shut = s.countSnoozed(ctx, h, *m, r); len(shut) > 0 {
			return nil, nil, nil, hook.ErrStale
		}
	}
	dropped := r.Slot.Suppressed - m.Slot.Suppressed
	switch {
	case len(a.Rows) > 0:
		if h.ComparesChanges() {
			r.Slot.Rev = m.Slot.Rev + 1
			a.Slot = &hook.SlotWrite{Key: group[0].keys.Slot, Read: m.Slot.Rev, Slot: r.Slot}
		}
		if err := s.persist(ctx, "admit events", func() error { return s.o.Store.Admit(ctx, a) }); err != nil { // W7
			return admitted, nil, nil, err
		}
		for _, c := range a.Snoozes {
			s.open.set(h.ID, c.Key, c.Snooze)
		}
	case dropped > 0:
		// Seen must rise also for events that say nothing new, or an older one
		// that says something else would pass for news.
		saw := hook.SlotSight{N: dropped, LastEvent: r.Slot.LastEvent, LastReason: r.Slot.LastReason}
		if r.Slot.Seen > m.Slot.Seen {
			saw.Sig, saw.Seen = r.Slot.Sig, r.Slot.Seen
		}
		ok, err := s.o.Store.SeeSlot(ctx, h.ID, group[0].keys.Slot, saw, now.UnixMilli())
		switch {
		case err != nil:
			return nil, nil, nil, fmt.Errorf("note events that were dropped: %w", err)
		case !ok && saw.Seen != "":
			return nil, nil, nil, hook.ErrStale
		case ok:
			r.Slot.Rev = m.Slot.Rev + 1
		}
	}
	m.Slot = r.Slot
	if !h.ComparesChanges() {
		shut = s.countSnoozed(ctx, h, *m, r)
	}
	for i, j := range group {
		v := r.Verdicts[i]
		if v == match.Snoozed && shut[j.keys.Snooze] {
			again = append(again, j)
			continue
		}
		if metric, ok := notTold[v]; ok {
			s.count(metric, 1)
		}
	}
	maps.Copy(m.Windows, r.Windows)
	return admitted, again, rest, nil
}

// fitting returns how many of a group can be decided in one admission.
func fitting(group []judged, verdicts []match.Verdict) int {
	rows, size := 0, 0
	for i, v := range verdicts {
		if v != match.Admit {
			continue
		}
		rows, size = rows+1, size+len(group[i].ev.Data)
		if rows > 1 && (rows > admitRows || size > admitBytes) {
			return i
		}
	}
	return len(group)
}

// countSnoozed adds what was dropped to the windows that were open before; those
// opened now carry their count already. It returns the windows that did not take
// it: they have changed, or could not be asked, so what was dropped for them is
// to be judged again. This process forgets them.
func (s *Service) countSnoozed(ctx context.Context, h hook.Hook, m match.Memory, r match.Ruling) (shut map[string]bool) {
	for _, key := range slices.Sorted(maps.Keys(r.Windows)) {
		if r.Opened[key] {
			continue
		}
		w := r.Windows[key]
		added, err := s.o.Store.AddSuppressed(ctx, h.ID, key, w.UntilMS, w.Suppressed-m.Windows[key].Suppressed, w.LastEvent, w.LastReason)
		if added && err == nil {
			s.open.set(h.ID, key, w)
			continue
		}
		if err != nil {
			s.o.Log.WarnContext(ctx, "snoozed events not counted; they are judged again", slog.String("hook_id", h.ID), slog.Any("err", err))
		}
		s.open.forget(h.ID, key)
		if shut == nil {
			shut = map[string]bool{}
		}
		shut[key] = true
	}
	return shut
}

// remember reads what is remembered of a group's slot and windows. A window
// that this process knows to be open is not read: in a storm the row takes one
// write a batch and no read.
func (s *Service) remember(ctx context.Context, group []judged, fresh bool) (*match.Memory, error) {
	h, now := group[0].h, s.nowMS()
	m := &match.Memory{Windows: map[string]hook.Snooze{}}
	if slot := group[0].keys.Slot; slot != "" {
		slots, err := s.o.Store.Slots(ctx, h.ID, []string{slot}, now)
		if err != nil {
			return nil, fmt.Errorf("read slot: %w", err)
		}
		m.Slot = slots[slot]
	}
	asked := map[string]bool{}
	for _, j := range group {
		key := j.keys.Snooze
		if key == "" || asked[key] {
			continue
		}
		if w, ok := s.open.get(h.ID, key, now); ok && !fresh {
			m.Windows[key] = w
			continue
		}
		asked[key] = true
	}
	if len(asked) == 0 {
		return m, nil
	}
	read, err := s.o.Store.Snoozes(ctx, h.ID, slices.Sorted(maps.Keys(asked)), now)
	if err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	maps.Copy(m.Windows, read)
	for key, w := range read {
		s.open.set(h.ID, key, w)
	}
	return m, nil
}

// windows remembers windows known to be open. The zero value is ready; it is
// safe for concurrent use.
type windows struct {
	mu sync.Mutex
	m  map[string]hook.Snooze
}

// maxWindows bounds the memory; beyond it everything is forgotten and read
// again.
const maxWindows = 10_000

func (w *windows) set(hookID, key string, s hook.Snooze) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil || len(w.m) >= maxWindows {
		w.m = map[string]hook.Snooze{}
	}
	w.m[hookID+" "+key] = s
}

func (w *windows) get(hookID, key string, now int64) (hook.Snooze, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.m[hookID+" "+key]
	return s, ok && s.UntilMS > now
}

func (w *windows) forget(hookID, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.m, hookID+" "+key)
}
