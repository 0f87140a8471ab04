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
	admitChunk = 45
	admitBytes = 3 << 20
)

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
			slots := map[string][]unit{}
			for _, group := range b.groups(units) {
				name := cmp.Or(group[0].keys.Slot, group[0].keys.Snooze)
				slots[name] = append(slots[name], b.admitGroup(ctx, group)...)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, chain := range slots {
				if len(chain) > 0 {
					chains = append(chains, chain)
				}
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
		out = append(out, chunks(g)...)
	}
	return out
}

// chunks cuts a group into pieces that fit one admission each.
func chunks(g []judged) (out [][]judged) {
	first, size := 0, 0
	for i, j := range g {
		if i > first && (i-first == admitChunk || size+len(j.ev.Data) > admitBytes) {
			out = append(out, g[first:i])
			first, size = i, 0
		}
		size += len(j.ev.Data)
	}
	return append(out, g[first:])
}

// admitGroup judges one group until its judgement holds, and returns the units
// to attempt, in the order of their ids.
func (b *batch) admitGroup(ctx context.Context, group []judged) []unit {
	var admitted []unit
	fresh := false // forget what is remembered of open windows, read instead
	for range judgements {
		if len(group) == 0 {
			return admitted
		}
		units, again, err := b.judge(ctx, group, fresh)
		var c *hook.Conflict
		switch {
		case err == nil:
			admitted, group = append(admitted, units...), again
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
		fresh = true
	}
	for _, j := range group {
		b.fail(j.msg, fmt.Errorf("admit events of hook %s: %w", j.h.ID, hook.ErrBusy))
	}
	return admitted
}

// judge decides for a group and stores the decision. hook.ErrStale means that
// what it was based on had changed and nothing was stored. The units returned
// are those of the admission's rows, also beside an error; again are those that
// were dropped for a window which turned out not to be open any more.
func (b *batch) judge(ctx context.Context, group []judged, fresh bool) (admitted []unit, again []judged, err error) {
	s, h := b.s, group[0].h
	now := s.o.Now()
	m, err := s.remember(ctx, group, fresh)
	if err != nil {
		return nil, nil, err
	}
	candidates := make([]match.Candidate, len(group))
	for i, j := range group {
		candidates[i] = match.Candidate{ID: j.ev.ID, Keys: j.keys}
	}
	r := match.Judge(h, candidates, m, now.UnixMilli())

	a := hook.Admission{HookID: h.ID, NowMS: now.UnixMilli()}
	for i, v := range r.Verdicts {
		if v != match.Admit {
			continue
		}
		j := group[i]
		d := newRow(h, j.ev, now)
		// The row is claimed by this batch from its first moment.
		d.Tries, d.LeaseMS, d.WakeMS, d.DueMS = 1, s.leaseMS(ctx), s.leaseMS(ctx), now.UnixMilli()
		d.SlotKey, d.SnoozeKey = j.keys.Slot, j.keys.Snooze
		u := j.unit
		u.row = &d
		a.Rows = append(a.Rows, d)
		admitted = append(admitted, u)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Opened)) {
		a.Snoozes = append(a.Snoozes, hook.SnoozeClaim{Key: key, Snooze: r.Windows[key], ExpiresAt: r.Windows[key].UntilMS/1000 + int64(Retention.Seconds())})
	}
	if len(a.Rows) > 0 {
		if h.ComparesChanges() {
			slot := r.Slot
			slot.Rev = m.Slot.Rev + 1
			a.Slot = &hook.SlotWrite{Key: group[0].keys.Slot, Read: m.Slot.Rev, Slot: slot}
		}
		if err := s.persist(ctx, "admit events", func() error { return s.o.Store.Admit(ctx, a) }); err != nil { // W7
			return admitted, nil, err
		}
		for _, c := range a.Snoozes {
			s.open.set(h.ID, c.Key, c.Snooze)
		}
	} else if r.Slot.Seen > m.Slot.Seen {
		// Nothing but unchanged events: Seen must still rise, or an older
		// event that says something else would pass for news.
		if ok, err := s.o.Store.SeeSlot(ctx, h.ID, group[0].keys.Slot, r.Slot.Sig, r.Slot.Seen, now.UnixMilli()); err != nil {
			return nil, nil, fmt.Errorf("note an unchanged event: %w", err)
		} else if !ok {
			return nil, nil, hook.ErrStale
		}
	}
	shut := s.count(ctx, h, m, r)
	for i, j := range group {
		if r.Verdicts[i] == match.Snoozed && shut[j.keys.Snooze] {
			again = append(again, j)
		}
	}
	return admitted, again, nil
}

// count adds what was dropped to the windows that were open before; those
// opened now carry their count already. It returns the windows that did not take
// it: they have changed, or could not be asked, so what was dropped for them is
// to be judged again. This process forgets them.
func (s *Service) count(ctx context.Context, h hook.Hook, m match.Memory, r match.Ruling) (shut map[string]bool) {
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
func (s *Service) remember(ctx context.Context, group []judged, fresh bool) (match.Memory, error) {
	h, now := group[0].h, s.nowMS()
	m := match.Memory{Windows: map[string]hook.Snooze{}}
	if slot := group[0].keys.Slot; slot != "" {
		slots, err := s.o.Store.Slots(ctx, h.ID, []string{slot}, now)
		if err != nil {
			return m, fmt.Errorf("read slot: %w", err)
		}
		m.Slot = slots[slot]
	}
	var ask []string
	for _, j := range group {
		key := j.keys.Snooze
		if _, have := m.Windows[key]; key == "" || have || slices.Contains(ask, key) {
			continue
		}
		if w, ok := s.open.get(h.ID, key, now); ok && !fresh {
			m.Windows[key] = w
			continue
		}
		ask = append(ask, key)
	}
	if len(ask) == 0 {
		return m, nil
	}
	read, err := s.o.Store.Snoozes(ctx, h.ID, ask, now)
	if err != nil {
		return m, fmt.Errorf("read windows: %w", err)
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
