package match

import "eventhooks/internal/hook"

// Verdict is what on_change and snooze say of one event.
type Verdict int

const (
	// Admit: tell it.
	Admit Verdict = iota
	// Known: it was admitted before, and its row carries it.
	Known
	// Stale: a newer event of its slot was judged already.
	Stale
	// Unchanged: it says what the last admitted event of its slot said.
	Unchanged
	// Snoozed: its window is open.
	Snoozed
)

// String is the word that counts and logs use.
func (v Verdict) String() string {
	return [...]string{"admitted", "known", "stale", "unchanged", "snoozed"}[v]
}

// Candidate is an event to be judged.
type Candidate struct {
	ID   string
	Keys Keys
}

// Memory is what is remembered of the candidates' slot and windows.
type Memory struct {
	Slot    hook.Slot              // zero: nothing yet
	Windows map[string]hook.Snooze // by snooze key; absent: never opened
}

// Ruling is the judgement of a batch.
type Ruling struct {
	Verdicts []Verdict // one for each candidate
	// Slot is what to remember of the slot, with what it dropped counted; equal
	// to what was remembered when nothing changed.
	Slot hook.Slot
	// Windows holds the windows that changed: opened by a candidate, or open
	// before and now with more dropped. Opened says which is which.
	Windows map[string]hook.Snooze
	Opened  map[string]bool
}

// Judge decides for all candidates of one slot, which come in the order of
// their ids; without on_change the candidates share a snooze key instead. It
// is all there is to on_change and snooze:
//
//   - the event that opened the slot or the window was admitted before;
//   - an event older than one judged already is stale;
//   - an event with the signature of the last admitted one is unchanged;
//   - an event whose window is open is snoozed, and leaves the slot untouched;
//   - every other one is admitted, and opens its window.
func Judge(h hook.Hook, candidates []Candidate, m Memory, nowMS int64) Ruling {
	r := Ruling{Verdicts: make([]Verdict, len(candidates)), Slot: m.Slot, Windows: map[string]hook.Snooze{}, Opened: map[string]bool{}}
	for i, c := range candidates {
		r.Verdicts[i] = r.judge(h, c, m, nowMS)
	}
	return r
}

func (r *Ruling) judge(h hook.Hook, c Candidate, m Memory, nowMS int64) Verdict {
	if h.ComparesChanges() {
		switch {
		case r.Slot.By == c.ID:
			return Known
		case c.ID <= r.Slot.Seen:
			return r.drop(c, Stale)
		case r.Slot.Sig == c.Keys.Sig:
			r.Slot.Seen = c.ID
			return r.drop(c, Unchanged)
		}
	}
	if h.Snoozed() > 0 {
		w, changed := r.Windows[c.Keys.Snooze]
		if !changed {
			w = m.Windows[c.Keys.Snooze]
		}
		switch {
		case w.By == c.ID:
			return Known
		case w.UntilMS > nowMS:
			w.Suppressed++
			w.LastEvent, w.LastReason = c.ID, Snoozed.String()
			r.Windows[c.Keys.Snooze] = w
			return Snoozed
		}
		r.Windows[c.Keys.Snooze] = hook.Snooze{UntilMS: nowMS + h.Snoozed()*1000, By: c.ID}
		r.Opened[c.Keys.Snooze] = true
	}
	if h.ComparesChanges() {
		r.Slot.Sig, r.Slot.Seen, r.Slot.By = c.Keys.Sig, c.ID, c.ID
	}
	return Admit
}

// drop counts an event that the slot keeps from being told.
func (r *Ruling) drop(c Candidate, v Verdict) Verdict {
	r.Slot.Suppressed++
	r.Slot.LastEvent, r.Slot.LastReason = c.ID, v.String()
	return v
}
