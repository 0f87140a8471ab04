package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/hook"
)

var statuses = []hook.Status{hook.Pending, hook.Delivered, hook.Failed, hook.Superseded}

func testDeliveries(t *testing.T, s *suite) {
	t.Run("a row in which every field is set reads back the same, in every status", func(t *testing.T) {
		for _, status := range statuses {
			d := s.fullRow(newID(), status)
			s.create(t, d)
			s.holds(t, string(status), d)
		}
	})

	t.Run("a row in which hardly a field is set reads back the same", func(t *testing.T) {
		d := hook.Delivery{HookID: newID(), Event: hook.Event{ID: newEventID(), Data: []byte("{}")}, Status: hook.Pending}
		s.create(t, d)
		s.holds(t, "sparse", d)

		d = hook.Delivery{
			HookID: newID(), Event: hook.Event{ID: newEventID(), Data: []byte("{}")}, Status: hook.Delivered,
			Attempts: []hook.Attempt{{}, {AtMS: 1}}, Response: &hook.Response{},
		}
		s.create(t, d)
		s.holds(t, "with an empty attempt and an empty response", d)

		d = hook.Delivery{
			HookID: newID(), Event: hook.Event{ID: newEventID(), Data: []byte("{}")}, Status: hook.Failed,
			Response: &hook.Response{Headers: map[string]string{"X-Empty": "", "": "nameless"}},
		}
		s.create(t, d)
		s.holds(t, "with empty header values", d)
	})

	t.Run("an event's time reads back to the nanosecond, in UTC, however far away", func(t *testing.T) {
		for _, at := range []time.Time{
			{},
			time.Unix(0, 0).UTC(),
			time.Date(1583, 1, 1, 0, 0, 0, 1, time.UTC),
			time.Date(2026, 11, 21, 18, 0, 0, 123_456_789, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		} {
			d := s.newRow(newID())
			d.Event.Time = at
			s.create(t, d)
			got, err := s.Delivery(t.Context(), d.Key(), s.now)
			ok(t, "Delivery", err)
			if !got.Event.Time.Equal(at) || got.Event.Time.Location() != time.UTC {
				t.Errorf("Event.Time = %v (%v); want %v (UTC)", got.Event.Time, got.Event.Time.Location(), at)
			}
		}
	})

	t.Run("an event's data reads back byte for byte", func(t *testing.T) {
		data := [][]byte{
			[]byte(`{"n":12345678901234567890.10,"e":1E+2,"s":"\u00e9\ud83d\ude00\u0000"}`), everyByte(), noise(1000),
			[]byte(strings.Repeat("{", 5000)),
		}
		for _, w := range words {
			data = append(data, []byte(w))
		}
		var rows []hook.Delivery
		for _, b := range data {
			d := s.newRow(newID())
			d.Event.Data = b
			rows = append(rows, d)
		}
		s.createAll(t, rows)
		for _, d := range rows {
			s.holds(t, fmt.Sprintf("data %.20q", d.Event.Data), d)
		}
	})

	t.Run("the largest event fits beside a full history", func(t *testing.T) {
		d := s.newRow(newID())
		d.Event.Data = noise(hook.MaxEventBytes)
		d.Attempts = slices.Repeat([]hook.Attempt{{AtMS: s.now, TookMS: 30_000, Code: 503, Error: strings.Repeat("e", 200), IP: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"}}, hook.MaxAttemptsKept)
		d.Response = &hook.Response{Code: 503, Headers: map[string]string{"X-Long": strings.Repeat("h", 8<<10)}, Body: strings.Repeat("b", hook.MaxResponseBytes)}
		s.create(t, d)
		s.holds(t, "the largest row", d)
	})

	t.Run("an answer that is not UTF-8 does not keep a row from being stored", func(t *testing.T) {
		d := s.newRow(newID())
		d.Response = &hook.Response{Code: 500, Headers: map[string]string{"X-Latin": "caf\xe9"}, Body: "cut \xf0\x9f\x98"}
		d.Attempts[0].Error = "said caf\xe9"
		s.create(t, d)
		got, err := s.Delivery(t.Context(), d.Key(), s.now)
		ok(t, "Delivery", err)
		if got.Response == nil || got.Response.Code != 500 || len(got.Attempts) != 1 {
			t.Fatalf("Delivery = %+v; want the answer's code and the attempt", got)
		}
		got.Response, got.Attempts = d.Response, d.Attempts // the texts themselves may be mended
		equal(t, "the rest of the row", got, d)
	})

	t.Run("what is not there is not found", func(t *testing.T) {
		d := s.newRow(newID())
		s.holdsNone(t, "never written", d.Key())
		s.create(t, d)
		s.holdsNone(t, "another hook", hook.DeliveryKey{HookID: newID(), EventID: d.Event.ID})
		s.holdsNone(t, "another event", hook.DeliveryKey{HookID: d.HookID, EventID: newEventID()})
	})

	t.Run("a row that has ended is not there from its expiry on, although it is still stored", func(t *testing.T) {
		for _, status := range []hook.Status{hook.Delivered, hook.Failed, hook.Superseded} {
			d := s.ended(s.newRow(newID()), status)
			s.create(t, d)
			end := d.ExpiresAt * 1000
			got, err := s.Delivery(t.Context(), d.Key(), end-1)
			ok(t, "Delivery a millisecond before", err)
			equal(t, "Delivery a millisecond before", got, d)
			if _, err := s.Delivery(t.Context(), d.Key(), end); !errors.Is(err, hook.ErrNotFound) {
				t.Errorf("Delivery at the expiry: %v; want ErrNotFound", err)
			}
			rows, err := s.Deliveries(t.Context(), []hook.DeliveryKey{d.Key()}, end)
			ok(t, "Deliveries", err)
			equal(t, "Deliveries at the expiry", rows, []hook.Delivery{})
		}
	})

	t.Run("a pending row never expires: an expiry given with it is not stored", func(t *testing.T) {
		d := s.newRow(newID())
		given := d
		given.ExpiresAt = s.now/1000 - 10
		s.create(t, given)
		s.holds(t, "created", d)
		created, err := s.CreateDelivery(t.Context(), given, s.now)
		ok(t, "CreateDelivery", err)
		if created {
			t.Errorf("CreateDelivery over a pending row = true; want false")
		}
		seq, err := s.UpdateDelivery(t.Context(), given, s.now)
		ok(t, "UpdateDelivery", err)
		d.Seq = seq
		s.holds(t, "updated", d)
	})

	t.Run("Deliveries returns those rows that exist, however many are asked for", func(t *testing.T) {
		id, other := newID(), newID()
		var rows []hook.Delivery
		for i := range 85 {
			d := s.newRow(id)
			if i%2 == 0 {
				d.HookID = other
			}
			rows = append(rows, d)
		}
		expired := s.ended(s.newRow(id), hook.Failed)
		expired.ExpiresAt = s.now/1000 + 30
		s.createAll(t, append(slices.Clone(rows), expired))

		var keys []hook.DeliveryKey
		for _, d := range rows {
			keys = append(keys, d.Key(), hook.DeliveryKey{HookID: id, EventID: newEventID()})
		}
		keys = append(keys, expired.Key(), rows[0].Key(), rows[1].Key()) // some twice
		got, err := s.Deliveries(t.Context(), keys, s.now+minute)
		ok(t, "Deliveries", err)
		byEvent := func(a, b hook.Delivery) int { return cmp.Compare(a.Event.ID, b.Event.ID) }
		slices.SortFunc(got, byEvent)
		got = slices.CompactFunc(got, func(a, b hook.Delivery) bool { return a.Key() == b.Key() }) // and may be answered so
		equal(t, "Deliveries", got, rows)

		got, err = s.Deliveries(t.Context(), nil, s.now)
		ok(t, "Deliveries of none", err)
		equal(t, "Deliveries of none", got, []hook.Delivery{})
	})

	t.Run("Deliveries finds the rows of one event among a thousand hooks, most of which have none", func(t *testing.T) {
		event := s.newRow("").Event
		var rows []hook.Delivery
		var keys []hook.DeliveryKey
		for i := range 1000 {
			d := s.newRow(newID())
			d.Event = event
			if i%11 == 0 {
				rows = append(rows, d)
			}
			keys = append(keys, d.Key())
		}
		s.createAll(t, rows)
		got, err := s.Deliveries(t.Context(), keys, s.now)
		ok(t, "Deliveries", err)
		byHook := func(a, b hook.Delivery) int { return cmp.Compare(a.HookID, b.HookID) }
		slices.SortFunc(got, byHook)
		slices.SortFunc(rows, byHook)
		equal(t, "Deliveries", got, rows)
	})

	t.Run("under what is no key there is no row, beside those that are there", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		none := []hook.DeliveryKey{
			{},
			{HookID: d.HookID},
			{EventID: d.Event.ID},
			{HookID: d.HookID, EventID: strings.Repeat("e", 1025)},
			{HookID: d.HookID, EventID: d.Event.ID + "\xff"},
			{HookID: strings.Repeat("h", 3000), EventID: d.Event.ID},
			{HookID: d.HookID + "\xff", EventID: d.Event.ID},
			{HookID: d.HookID + "\x00", EventID: d.Event.ID},
		}
		for _, key := range none {
			s.holdsNone(t, "no key", key)
		}
		got, err := s.Deliveries(t.Context(), append(none, d.Key()), s.now)
		ok(t, "Deliveries", err)
		equal(t, "Deliveries", got, []hook.Delivery{d})
	})
}

// createAll stores rows that must not be there yet, many in one write.
func (s *suite) createAll(t *testing.T, rows []hook.Delivery) {
	t.Helper()
	for part := range slices.Chunk(rows, 45) {
		_, err := s.Write(t.Context(), hook.FeedNone, nil, part, s.now)
		ok(t, "Write of rows", err)
	}
}

func testConditions(t *testing.T, s *suite) {
	t.Run("W1: a row is created once, whatever its status", func(t *testing.T) {
		for _, status := range statuses {
			first := s.fullRow(newID(), status)
			s.create(t, first)
			for _, again := range statuses {
				second := s.fullRow(first.HookID, again)
				second.Event.ID, second.Run = first.Event.ID, 9
				created, err := s.CreateDelivery(t.Context(), second, s.now)
				ok(t, "CreateDelivery", err)
				if created {
					t.Errorf("CreateDelivery of a %s row over a %s one = true; want false", again, status)
				}
			}
			s.holds(t, "after refused creations", first)
		}
	})

	t.Run("W1: an expired row is no obstacle", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Delivered)
		s.create(t, d)
		anew := s.newRow(d.HookID)
		anew.Event.ID = d.Event.ID
		for _, c := range []struct {
			now  int64
			want bool
		}{{d.ExpiresAt*1000 - 1, false}, {d.ExpiresAt * 1000, true}} {
			created, err := s.CreateDelivery(t.Context(), anew, c.now)
			ok(t, "CreateDelivery", err)
			if created != c.want {
				t.Errorf("CreateDelivery %d ms before the expiry = %v; want %v", d.ExpiresAt*1000-c.now, created, c.want)
			}
		}
		s.holds(t, "the new row", anew)
	})

	t.Run("W1: of creators at the same time exactly one wins", func(t *testing.T) {
		d := s.newRow(newID())
		winner := oneWins(t, "CreateDelivery", race(func(worker int) error {
			mine := d
			mine.Attempt = int64(worker)
			return won(s.CreateDelivery(t.Context(), mine, s.now))
		}), errLost)
		d.Attempt = int64(winner)
		s.holds(t, "the winner's row", d)
	})

	t.Run("W1: a row over 400 KB is an error and is not stored", func(t *testing.T) {
		d := s.newRow(newID())
		d.Event.Data = noise(maxItem + 1)
		if created, err := s.CreateDelivery(t.Context(), d, s.now); err == nil {
			t.Errorf("CreateDelivery = %v, nil; want an error", created)
		}
		s.holdsNone(t, "too large", d.Key())
	})

	t.Run("W2: a claim raises Seq and Tries, sets the lease, and changes nothing else", func(t *testing.T) {
		for _, d := range []hook.Delivery{s.fullRow(newID(), hook.Pending), s.newRow(newID())} {
			s.create(t, d)
			lease := s.now + 90*second
			got, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, lease, s.now)
			ok(t, "ClaimDelivery", err)
			want := d
			want.Seq, want.Tries, want.LeaseMS, want.WakeMS = d.Seq+1, d.Tries+1, lease, lease
			equal(t, "ClaimDelivery", got, want)
			s.holds(t, "the claimed row", want)

			// The Seq that the claim answered is good for the next.
			got, err = s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: got.Seq}, lease+1, s.now)
			ok(t, "ClaimDelivery again", err)
			want.Seq, want.Tries, want.LeaseMS, want.WakeMS = d.Seq+2, d.Tries+2, lease+1, lease+1
			equal(t, "ClaimDelivery again", got, want)
		}
	})

	t.Run("W2: a row that is gone, ended, or at another Seq cannot be claimed", func(t *testing.T) {
		d := s.newRow(newID())
		claim := func(seq int64) error {
			_, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: seq}, s.now+90*second, s.now)
			return err
		}
		is(t, "ClaimDelivery of nothing", claim(d.Seq), hook.ErrStale)
		s.holdsNone(t, "after a claim of nothing", d.Key())
		s.create(t, d)
		is(t, "ClaimDelivery of an earlier Seq", claim(d.Seq-1), hook.ErrStale)
		is(t, "ClaimDelivery of a later Seq", claim(d.Seq+1), hook.ErrStale)
		s.holds(t, "after refused claims", d)
		for _, status := range []hook.Status{hook.Delivered, hook.Failed, hook.Superseded} {
			d = s.ended(s.newRow(newID()), status)
			s.create(t, d)
			is(t, "ClaimDelivery of a "+string(status)+" row", claim(d.Seq), hook.ErrStale)
			s.holds(t, "after a refused claim", d)
		}
	})

	t.Run("W2: of claims of one wake-up at the same time exactly one wins", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		winner := oneWins(t, "ClaimDelivery", race(func(worker int) error {
			_, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, s.now+int64(worker), s.now)
			return err
		}), hook.ErrStale)
		d.Seq, d.Tries, d.LeaseMS, d.WakeMS = d.Seq+1, d.Tries+1, s.now+int64(winner), s.now+int64(winner)
		s.holds(t, "the winner's claim", d)
	})

	t.Run("W3: an update replaces the whole row and raises Seq", func(t *testing.T) {
		for _, status := range []hook.Status{hook.Pending, hook.Failed, hook.Superseded} {
			for _, from := range []hook.Delivery{s.newRow(newID()), s.fullRow(newID(), hook.Pending)} {
				s.create(t, from)
				to := s.fullRow(from.HookID, status)
				to.Event, to.Seq = from.Event, from.Seq
				seq, err := s.UpdateDelivery(t.Context(), to, s.now)
				ok(t, "UpdateDelivery", err)
				if seq != from.Seq+1 {
					t.Errorf("UpdateDelivery = %d; want %d", seq, from.Seq+1)
				}
				to.Seq = seq
				s.holds(t, "updated to "+string(status), to)
			}
		}
	})

	t.Run("W3: an update can clear what was set", func(t *testing.T) {
		d := s.fullRow(newID(), hook.Pending)
		s.create(t, d)
		bare := hook.Delivery{HookID: d.HookID, Event: d.Event, Status: hook.Pending, Seq: d.Seq}
		seq, err := s.UpdateDelivery(t.Context(), bare, s.now)
		ok(t, "UpdateDelivery", err)
		bare.Seq = seq
		s.holds(t, "cleared", bare)
	})

	t.Run("W3: a row that is gone, ended, or at another Seq cannot be updated", func(t *testing.T) {
		d := s.newRow(newID())
		update := func(seq int64) error {
			to := s.ended(d, hook.Failed)
			to.Seq, to.Attempt = seq, 77
			_, err := s.UpdateDelivery(t.Context(), to, s.now)
			return err
		}
		is(t, "UpdateDelivery of nothing", update(d.Seq), hook.ErrStale)
		s.holdsNone(t, "after an update of nothing", d.Key())
		s.create(t, d)
		is(t, "UpdateDelivery of an earlier Seq", update(d.Seq-1), hook.ErrStale)
		is(t, "UpdateDelivery of a later Seq", update(d.Seq+1), hook.ErrStale)
		s.holds(t, "after refused updates", d)
		for _, status := range []hook.Status{hook.Delivered, hook.Failed, hook.Superseded} {
			d = s.ended(s.newRow(newID()), status)
			s.create(t, d)
			is(t, "UpdateDelivery of a "+string(status)+" row", update(d.Seq), hook.ErrStale)
			s.holds(t, "after a refused update", d)
		}
	})

	t.Run("W3: of updates at the same time exactly one wins", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		winner := oneWins(t, "UpdateDelivery", race(func(worker int) error {
			mine := d
			mine.Parks = int64(worker)
			_, err := s.UpdateDelivery(t.Context(), mine, s.now)
			return err
		}), hook.ErrStale)
		d.Seq, d.Parks = d.Seq+1, int64(winner)
		s.holds(t, "the winner's row", d)
	})

	t.Run("W3: an update over 400 KB is an error and the row stays", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		large := d
		large.Response = &hook.Response{Body: strings.Repeat("x", maxItem+1)}
		if _, err := s.UpdateDelivery(t.Context(), large, s.now); err == nil || errors.Is(err, hook.ErrStale) {
			t.Errorf("UpdateDelivery = %v; want an error of its own", err)
		}
		s.holds(t, "after a refused update", d)
	})

	t.Run("W4: delivered is recorded where nothing is, and over what is not delivered of the same run", func(t *testing.T) {
		record := func(d hook.Delivery, now int64) bool {
			t.Helper()
			did, err := s.RecordDelivered(t.Context(), d, now)
			ok(t, "RecordDelivered", err)
			return did
		}
		d := s.fullRow(newID(), hook.Delivered)
		if !record(d, s.now) {
			t.Errorf("RecordDelivered where nothing is = false; want true")
		}
		s.holds(t, "recorded where nothing was", recorded(d))
		again := d
		again.Attempt = 77
		if record(again, s.now) {
			t.Errorf("RecordDelivered over delivered = true; want false")
		}
		s.holds(t, "after a refused record", recorded(d))

		for _, status := range []hook.Status{hook.Pending, hook.Failed, hook.Superseded} {
			was := s.fullRow(newID(), status)
			s.create(t, was)
			d := s.fullRow(was.HookID, hook.Delivered)
			d.Event = was.Event
			for _, run := range []int64{was.Run - 1, was.Run + 1} {
				d.Run = run
				if record(d, s.now) {
					t.Errorf("RecordDelivered of run %d over a %s row of run %d = true; want false", run, status, was.Run)
				}
			}
			s.holds(t, "after refused records", was)
			d.Run, d.Seq = was.Run, was.Seq+5 // whatever its Seq
			if !record(d, s.now) {
				t.Errorf("RecordDelivered over a %s row of the same run = false; want true", status)
			}
			s.holds(t, "recorded over "+string(status), recorded(d))
		}

		old := s.ended(s.newRow(newID()), hook.Delivered)
		s.create(t, old)
		d = s.ended(s.newRow(old.HookID), hook.Delivered)
		d.Event.ID, d.Run = old.Event.ID, old.Run+1
		d.ExpiresAt = old.ExpiresAt + 1000
		if record(d, old.ExpiresAt*1000-1) {
			t.Errorf("RecordDelivered before the old row's expiry = true; want false")
		}
		if !record(d, old.ExpiresAt*1000) {
			t.Errorf("RecordDelivered over an expired row = false; want true")
		}
		s.holds(t, "recorded over an expired row", recorded(d))
	})

	t.Run("W4: of records at the same time exactly one is stored", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Delivered)
		winner := oneWins(t, "RecordDelivered", race(func(worker int) error {
			mine := d
			mine.Attempt = int64(worker)
			return won(s.RecordDelivered(t.Context(), mine, s.now))
		}), errLost)
		d.Attempt = int64(winner)
		s.holds(t, "the winner's row", recorded(d))
	})

	t.Run("W4: a record over 400 KB is an error and nothing is stored", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Delivered)
		d.Event.Data = noise(maxItem + 1)
		if recorded, err := s.RecordDelivered(t.Context(), d, s.now); err == nil {
			t.Errorf("RecordDelivered = %v, nil; want an error", recorded)
		}
		s.holdsNone(t, "too large", d.Key())
	})

	t.Run("W5: a redeliver replaces a row of any status at its Seq", func(t *testing.T) {
		for _, status := range statuses {
			was := s.fullRow(newID(), status)
			s.create(t, was)
			d := s.newRow(was.HookID)
			d.Event, d.Run, d.Attempt = was.Event, was.Run+1, 0
			for _, seq := range []int64{was.Seq - 1, was.Seq + 1} {
				d.Seq = seq
				_, err := s.RedeliverDelivery(t.Context(), d, s.now)
				is(t, "RedeliverDelivery at another Seq", err, hook.ErrStale)
			}
			s.holds(t, "after refused redelivers", was)
			d.Seq = was.Seq
			seq, err := s.RedeliverDelivery(t.Context(), d, s.now)
			ok(t, "RedeliverDelivery", err)
			if seq != was.Seq+1 {
				t.Errorf("RedeliverDelivery = %d; want %d", seq, was.Seq+1)
			}
			d.Seq = seq
			s.holds(t, "redelivered from "+string(status), d)
			_, err = s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: seq}, s.now+minute, s.now)
			ok(t, "ClaimDelivery after a redeliver", err)
		}
	})

	t.Run("W5: what is not there, or no longer, cannot be redelivered", func(t *testing.T) {
		d := s.newRow(newID())
		_, err := s.RedeliverDelivery(t.Context(), d, s.now)
		is(t, "RedeliverDelivery of nothing", err, hook.ErrStale)
		s.holdsNone(t, "after a redeliver of nothing", d.Key())

		was := s.ended(s.newRow(newID()), hook.Failed)
		s.create(t, was)
		d = s.newRow(was.HookID)
		d.Event = was.Event
		_, err = s.RedeliverDelivery(t.Context(), d, was.ExpiresAt*1000)
		is(t, "RedeliverDelivery of an expired row", err, hook.ErrStale)
		s.holds(t, "after a refused redeliver", was)
	})

	t.Run("W5: a redelivered row does not expire, and begins a run of its own with what is given", func(t *testing.T) {
		for _, status := range []hook.Status{hook.Failed, hook.Delivered, hook.Superseded} {
			was := s.fullRow(newID(), status)
			s.create(t, was)
			d := was
			d.Status, d.Reason, d.ExpiresAt = hook.Pending, "", 0
			d.Run, d.Gen = was.Run+1, was.Gen+7
			d.Attempt, d.Tries, d.Parks, d.Nudges = 0, 0, 0, 0
			d.DueMS, d.WakeMS, d.DeadlineMS = s.now, s.now+2*minute, s.now+day
			seq, err := s.RedeliverDelivery(t.Context(), d, s.now)
			ok(t, "RedeliverDelivery", err)
			d.Seq = seq
			s.holds(t, "redelivered from "+string(status), d) // its history too
			got, err := s.Delivery(t.Context(), d.Key(), (was.ExpiresAt+1)*1000)
			ok(t, "Delivery after the expiry that it had", err)
			equal(t, "Delivery after the expiry that it had", got, d)
		}
	})

	t.Run("W5: a redeliver takes a pending row from who has claimed it and from who would wake it", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		claimed, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, s.now+minute, s.now)
		ok(t, "ClaimDelivery", err)
		anew := claimed
		anew.Run, anew.Attempt, anew.Tries, anew.LeaseMS, anew.DueMS, anew.WakeMS = 2, 0, 0, 0, s.now, s.now+2*minute
		_, err = s.RedeliverDelivery(t.Context(), func() hook.Delivery { old := anew; old.Seq = d.Seq; return old }(), s.now)
		is(t, "RedeliverDelivery as read before the claim", err, hook.ErrStale)
		anew.Seq, err = s.RedeliverDelivery(t.Context(), anew, s.now)
		ok(t, "RedeliverDelivery of a claimed row", err)
		s.holds(t, "the redelivered row", anew)

		_, err = s.UpdateDelivery(t.Context(), s.ended(claimed, hook.Failed), s.now)
		is(t, "UpdateDelivery by who had claimed it", err, hook.ErrStale)
		recorded, err := s.RecordDelivered(t.Context(), s.ended(claimed, hook.Delivered), s.now)
		ok(t, "RecordDelivered", err)
		if recorded {
			t.Errorf("RecordDelivered by who had claimed it = true; want false")
		}
		for _, seq := range []int64{d.Seq, claimed.Seq} {
			_, err = s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: seq}, s.now+minute, s.now)
			is(t, "ClaimDelivery by an earlier wake-up", err, hook.ErrStale)
		}
		nudged, err := s.NudgeDelivery(t.Context(), hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: claimed.Seq}, WakeMS: claimed.WakeMS}, s.now+hour)
		ok(t, "NudgeDelivery", err)
		if nudged {
			t.Errorf("NudgeDelivery of the claim's end = true; want false")
		}
		s.holds(t, "after all of them", anew)
		_, err = s.RedeliverDelivery(t.Context(), func() hook.Delivery { next := anew; next.Run++; return next }(), s.now)
		ok(t, "RedeliverDelivery of what was redelivered", err)
	})

	t.Run("W5: what an earlier run was at is gone, also when a success came late", func(t *testing.T) {
		// The first attempt was made twice at once. One failed (W1) and was
		// woken and claimed (W2); the other's success is recorded (W4), which
		// began with the first Seq; a person has it sent again (W5).
		d := s.newRow(newID())
		s.create(t, d)
		claimed, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, s.now+minute, s.now)
		ok(t, "ClaimDelivery", err)
		delivered := s.ended(d, hook.Delivered)
		recorded, err := s.RecordDelivered(t.Context(), delivered, s.now)
		ok(t, "RecordDelivered", err)
		if !recorded {
			t.Fatal("RecordDelivered = false; want true")
		}
		anew := d
		for _, read := range []int64{d.Seq, claimed.Seq} {
			anew.Run, anew.Seq = 2, read
			_, err = s.RedeliverDelivery(t.Context(), anew, s.now)
			is(t, "RedeliverDelivery by who read the row before it was delivered", err, hook.ErrStale)
		}
		anew.Seq = delivered.DeliveredSeq()
		anew.Seq, err = s.RedeliverDelivery(t.Context(), anew, s.now)
		ok(t, "RedeliverDelivery", err)

		_, err = s.UpdateDelivery(t.Context(), claimed, s.now)
		is(t, "UpdateDelivery by who had claimed the first run", err, hook.ErrStale)
		_, err = s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: claimed.Seq}, s.now+minute, s.now)
		is(t, "ClaimDelivery by a wake-up of the first run", err, hook.ErrStale)
		s.holds(t, "the second run", anew)
	})

	t.Run("W5: of redelivers at the same time exactly one wins", func(t *testing.T) {
		was := s.ended(s.newRow(newID()), hook.Failed)
		s.create(t, was)
		d := s.newRow(was.HookID)
		d.Event, d.Run = was.Event, 2
		winner := oneWins(t, "RedeliverDelivery", race(func(worker int) error {
			mine := d
			mine.DueMS = int64(worker)
			_, err := s.RedeliverDelivery(t.Context(), mine, s.now)
			return err
		}), hook.ErrStale)
		d.Seq, d.DueMS = was.Seq+1, int64(winner)
		s.holds(t, "the winner's row", d)
	})

	t.Run("W5: a redeliver over 400 KB is an error and the row stays", func(t *testing.T) {
		was := s.ended(s.newRow(newID()), hook.Failed)
		s.create(t, was)
		d := s.newRow(was.HookID)
		d.Event = was.Event
		d.Event.Data = noise(maxItem + 1)
		if _, err := s.RedeliverDelivery(t.Context(), d, s.now); err == nil || errors.Is(err, hook.ErrStale) {
			t.Errorf("RedeliverDelivery = %v; want an error of its own", err)
		}
		s.holds(t, "after a refused redeliver", was)
	})

	t.Run("W6: a nudge moves WakeMS, raises Nudges, and changes nothing else", func(t *testing.T) {
		for _, d := range []hook.Delivery{s.fullRow(newID(), hook.Pending), s.newRow(newID())} {
			s.create(t, d)
			nudge := func(wake, later int64) bool {
				t.Helper()
				nudged, err := s.NudgeDelivery(t.Context(), hook.Overdue{
					Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: wake, Nudges: d.Nudges,
				}, later)
				ok(t, "NudgeDelivery", err)
				return nudged
			}
			if nudge(d.WakeMS-1, s.now) || nudge(d.WakeMS+1, s.now) {
				t.Errorf("NudgeDelivery of another WakeMS = true; want false")
			}
			s.holds(t, "after refused nudges", d)
			later := s.now + 15*minute
			if !nudge(d.WakeMS, later) {
				t.Errorf("NudgeDelivery = false; want true")
			}
			if nudge(d.WakeMS, later+1) {
				t.Errorf("NudgeDelivery twice = true; want false")
			}
			want := d
			want.WakeMS, want.Nudges = later, d.Nudges+1
			s.holds(t, "the nudged row", want)
			_, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, s.now+minute, s.now)
			ok(t, "ClaimDelivery by a wake-up from before the nudge", err)
		}
	})

	t.Run("W6: what is gone or has ended cannot be nudged", func(t *testing.T) {
		d := s.newRow(newID())
		nudge := func() {
			t.Helper()
			nudged, err := s.NudgeDelivery(t.Context(), hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: d.WakeMS}, s.now)
			ok(t, "NudgeDelivery", err)
			if nudged {
				t.Errorf("NudgeDelivery of a row that is %q = true; want false", d.Status)
			}
		}
		nudge()
		s.holdsNone(t, "after a nudge of nothing", d.Key())
		for _, status := range []hook.Status{hook.Delivered, hook.Failed, hook.Superseded} {
			d = s.ended(s.newRow(newID()), status)
			s.create(t, d)
			nudge()
			s.holds(t, "after a refused nudge", d)
		}
	})

	t.Run("W6: of sweeps at the same time exactly one nudges", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		o := hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: d.WakeMS}
		winner := oneWins(t, "NudgeDelivery", race(func(worker int) error {
			return won(s.NudgeDelivery(t.Context(), o, s.now+hour+int64(worker)))
		}), errLost)
		d.WakeMS, d.Nudges = s.now+hour+int64(winner), 1
		s.holds(t, "the winner's row", d)
	})

	t.Run("of a claim, a failure, a success and a redeliver at the same time, what is stored follows from who came first", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		failed, delivered, redelivered := s.ended(d, hook.Failed), s.ended(d, hook.Delivered), d
		redelivered.Run = 2
		answers := race(func(worker int) error {
			switch worker {
			case 0:
				_, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, s.now+minute, s.now)
				return err
			case 1:
				_, err := s.UpdateDelivery(t.Context(), failed, s.now)
				return err
			case 2:
				return won(s.RecordDelivered(t.Context(), delivered, s.now))
			case 3:
				_, err := s.RedeliverDelivery(t.Context(), redelivered, s.now)
				return err
			}
			return nil
		})
		claim, fail, success, redeliver := answers[0] == nil, answers[1] == nil, answers[2] == nil, answers[3] == nil
		for i, err := range answers {
			if err != nil && !errors.Is(err, hook.ErrStale) && !errors.Is(err, errLost) {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		got, err := s.Delivery(t.Context(), d.Key(), s.now)
		ok(t, "Delivery", err)
		what := fmt.Sprintf("claim %v, failure %v, success %v, redeliver %v: row is %s of run %d", claim, fail, success, redeliver, got.Status, got.Run)
		// Claim and failure both want the row pending at its first Seq. Nothing
		// but the redeliver is in the way of the success; what comes after the
		// redeliver finds another run or Seq.
		switch {
		case claim && fail:
			t.Errorf("%s: want at most one of claim and failure", what)
		case redeliver:
			if got.Status != hook.Pending || got.Run != 2 {
				t.Errorf("%s: want pending of run 2", what)
			}
		case !success:
			t.Errorf("%s: nothing stood in the way of the success", what)
		case got.Status != hook.Delivered || got.Run != 1:
			t.Errorf("%s: want delivered of run 1", what)
		}
	})
}

func count(yes ...bool) int {
	n := 0
	for _, y := range yes {
		if y {
			n++
		}
	}
	return n
}

func testSuggestions(t *testing.T, s *suite) {
	t.Run("a page of no rows is refused", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		for _, limit := range []int{0, -1} {
			for _, status := range []hook.Status{"", hook.Pending, hook.Delivered} {
				page, more, err := s.ListDeliveries(t.Context(), d.HookID, status, "", limit, s.now)
				refused(t, "ListDeliveries", limit, len(page), more, err)
			}
		}
	})

	// overdue returns what OverdueDeliveries says of one row, asked of the
	// row's own shard.
	overdue := func(key hook.DeliveryKey, now int64) (hook.Overdue, bool, error) {
		all, err := s.OverdueDeliveries(t.Context(), key.WakeShard(), now, 1000)
		if err != nil {
			return hook.Overdue{}, false, err
		}
		for i, o := range all {
			if i > 0 && o.WakeMS < all[i-1].WakeMS {
				return o, false, fmt.Errorf("WakeMS %d comes after %d; want earliest first", o.WakeMS, all[i-1].WakeMS)
			}
			if o.WakeMS > now {
				return o, false, fmt.Errorf("WakeMS %d has not come at %d", o.WakeMS, now)
			}
		}
		i := slices.IndexFunc(all, func(o hook.Overdue) bool { return o.DeliveryKey == key })
		if i < 0 {
			return hook.Overdue{}, false, nil
		}
		return all[i], true, nil
	}
	// listed and unlisted ask until the row is, or is not, overdue at now.
	listed := func(t *testing.T, what string, d hook.Delivery, now int64) {
		t.Helper()
		want := waits(d).Overdue
		eventually(t, what, func() error {
			got, found, err := overdue(d.Key(), now)
			if err == nil && (!found || got != want) {
				err = fmt.Errorf("OverdueDeliveries has it: %v (-want +got):\n%s", found, diff(want, got))
			}
			return err
		})
	}
	unlisted := func(t *testing.T, what string, d hook.Delivery, now int64) {
		t.Helper()
		eventually(t, what, func() error {
			got, found, err := overdue(d.Key(), now)
			if err == nil && found {
				err = fmt.Errorf("OverdueDeliveries has %+v; want it not to", got)
			}
			return err
		})
	}
	// Rows of these tests wake in the first seconds of 1970, so that they come
	// before all others that the tables may hold, and are ended when done.
	end := func(t *testing.T, d hook.Delivery) {
		t.Helper()
		_, err := s.UpdateDelivery(t.Context(), s.ended(d, hook.Failed), s.now)
		ok(t, "UpdateDelivery", err)
	}

	t.Run("a pending row is overdue from its WakeMS on, wherever its plan moves", func(t *testing.T) {
		d := s.newRow(newID())
		d.WakeMS, d.Nudges = 1000, 3
		s.create(t, d)
		listed(t, "at its WakeMS", d, 1000)
		unlisted(t, "before its WakeMS", d, 999)

		nudged, err := s.NudgeDelivery(t.Context(), hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: 1000, Nudges: 3}, 2000)
		ok(t, "NudgeDelivery", err)
		if !nudged {
			t.Fatalf("NudgeDelivery = false; want true")
		}
		d.WakeMS, d.Nudges = 2000, 4
		listed(t, "nudged", d, 2000)
		unlisted(t, "nudged, before its new WakeMS", d, 1999)

		d, err = s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, 3000, s.now)
		ok(t, "ClaimDelivery", err)
		listed(t, "claimed, when the lease ends", d, 3000)
		unlisted(t, "claimed, before the lease ends", d, 2999)

		d.WakeMS, d.LeaseMS, d.Nudges, d.DeadlineMS = 4000, 0, 0, s.now+day
		d.Seq, err = s.UpdateDelivery(t.Context(), d, s.now)
		ok(t, "UpdateDelivery", err)
		listed(t, "updated", d, 4000)
		unlisted(t, "updated, before its new WakeMS", d, 3999)

		end(t, d)
		unlisted(t, "ended", d, 5000)
	})

	t.Run("a redelivered row is overdue again", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Delivered)
		recorded, err := s.RecordDelivered(t.Context(), d, s.now)
		ok(t, "RecordDelivered", err)
		if !recorded {
			t.Fatalf("RecordDelivered = false; want true")
		}
		anew := s.newRow(d.HookID)
		anew.Event, anew.Run, anew.Seq, anew.WakeMS = d.Event, 2, d.DeliveredSeq(), 1000
		anew.Seq, err = s.RedeliverDelivery(t.Context(), anew, s.now)
		ok(t, "RedeliverDelivery", err)
		listed(t, "redelivered", anew, 1000)

		d = s.ended(anew, hook.Delivered)
		_, err = s.RecordDelivered(t.Context(), d, s.now)
		ok(t, "RecordDelivered", err)
		unlisted(t, "delivered", anew, 1000)
	})

	t.Run("rows of one write are overdue, each in its shard only, earliest first", func(t *testing.T) {
		hookID := newID()
		var rows []hook.Delivery
		shards := map[int]bool{}
		for i := range 24 {
			d := s.newRow(hookID)
			d.WakeMS = 100 + int64(i*7%24)
			rows = append(rows, d)
			shards[d.Key().WakeShard()] = true
		}
		s.createAll(t, rows)
		for shard := range hook.WakeShards {
			want := map[string]int64{}
			for _, d := range rows {
				if d.Key().WakeShard() == shard {
					want[d.Event.ID] = d.WakeMS
				}
			}
			eventually(t, fmt.Sprintf("shard %d", shard), func() error {
				all, err := s.OverdueDeliveries(t.Context(), shard, 1000, 1000)
				if err != nil {
					return err
				}
				got, last := 0, int64(0)
				for _, o := range all {
					if o.WakeMS < last {
						return fmt.Errorf("WakeMS %d comes after %d; want earliest first", o.WakeMS, last)
					}
					last = o.WakeMS
					if o.HookID != hookID {
						continue
					}
					if wake, mine := want[o.EventID]; !mine || wake != o.WakeMS {
						return fmt.Errorf("OverdueDeliveries has %+v; want only the shard's own, as stored", o)
					}
					got++
				}
				if got != len(want) {
					return fmt.Errorf("OverdueDeliveries has %d of the rows; want %d", got, len(want))
				}
				few, err := s.OverdueDeliveries(t.Context(), shard, 1000, 2)
				if err == nil && len(few) != min(len(all), 2) {
					err = fmt.Errorf("OverdueDeliveries with limit 2 has %d; want %d", len(few), min(len(all), 2))
				}
				for i := range few {
					if err == nil && few[i].WakeMS != all[i].WakeMS {
						err = fmt.Errorf("OverdueDeliveries with limit 2 has %+v; want the earliest, %+v", few[i], all[i])
					}
				}
				return err
			})
		}
		if len(shards) < 2 {
			t.Errorf("24 rows fell into %d shards; want several", len(shards))
		}
		for _, d := range rows {
			end(t, d)
		}
	})

	t.Run("a row that has ended is never overdue, whatever WakeMS it carries", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Failed)
		d.WakeMS = 1000
		s.create(t, d)
		// A pending row of the same shard shows that the index has caught up.
		later := s.newRow(d.HookID)
		for later.Key().WakeShard() != d.Key().WakeShard() {
			later.Event.ID = newEventID()
		}
		later.WakeMS = 1000
		s.create(t, later)
		listed(t, "the row written after it", later, 1000)
		unlisted(t, "ended", d, 1000)
		end(t, later)
	})

	t.Run("a hook's rows are listed newest first, in every status, whatever the page", func(t *testing.T) {
		hookID := newID()
		var all []hook.Delivery // newest first
		var others []hook.Delivery
		for i := range 20 {
			all = append(all, s.fullRow(hookID, statuses[i*7/5%4]))
			other := s.fullRow(newID(), statuses[i%4])
			other.Event.ID = all[i].Event.ID
			others = append(others, other)
		}
		shuffled := slices.Concat(all[10:], others, all[:10])
		s.createAll(t, shuffled)
		slices.Reverse(all)
		for _, status := range append([]hook.Status{""}, statuses...) {
			var want []hook.Delivery
			for _, d := range all {
				if status == "" || d.Status == status {
					want = append(want, d)
				}
			}
			if len(want) < 3 {
				t.Fatalf("%d rows are %s; want at least 3", len(want), status)
			}
			for _, limit := range []int{1, 3, 20, 1000} {
				eventually(t, fmt.Sprintf("status %q, limit %d", status, limit), func() error {
					got, err := s.rows(t.Context(), hookID, status, "", limit, s.now)
					if d := diff(want, got); err == nil && d != "" {
						err = fmt.Errorf("ListDeliveries (-want +got):\n%s", d)
					}
					return err
				})
			}
			eventually(t, fmt.Sprintf("status %q, before the second", status), func() error {
				got, err := s.rows(t.Context(), hookID, status, want[1].Event.ID, 3, s.now)
				if err == nil && !slices.Equal(eventIDs(got), eventIDs(want[2:])) {
					err = fmt.Errorf("ListDeliveries = %q; want %q", eventIDs(got), eventIDs(want[2:]))
				}
				return err
			})
		}
		got, err := s.rows(t.Context(), newID(), "", "", 10, s.now)
		ok(t, "ListDeliveries", err)
		equal(t, "the rows of a hook that has none", got, []hook.Delivery{})
		got, err = s.rows(t.Context(), hookID, "", all[len(all)-1].Event.ID, 10, s.now)
		ok(t, "ListDeliveries", err)
		equal(t, "the rows before the oldest", got, []hook.Delivery{})
	})

	t.Run("a list of rows may begin before any text", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Failed)
		s.create(t, d)
		for _, status := range []hook.Status{"", hook.Failed} {
			for before, want := range map[string]int{"g": 1, "g" + strings.Repeat("é", 1000): 1, "g\xff": 1, "!" + strings.Repeat("e", 2000): 0} {
				eventually(t, fmt.Sprintf("status %q, before %.10q", status, before), func() error {
					got, err := s.rows(t.Context(), d.HookID, status, before, 10, s.now)
					if err == nil && len(got) != want {
						err = fmt.Errorf("ListDeliveries = %d rows; want %d", len(got), want)
					}
					return err
				})
			}
		}
	})

	t.Run("a row moves from one status's list to another's, and is never shown in a status it is not in", func(t *testing.T) {
		d := s.newRow(newID())
		in := func(what string, want hook.Status) {
			t.Helper()
			for _, status := range append([]hook.Status{""}, statuses...) {
				eventually(t, fmt.Sprintf("%s, list of %q", what, status), func() error {
					got, err := s.rows(t.Context(), d.HookID, status, "", 10, s.now)
					if err != nil {
						return err
					}
					for _, g := range got {
						if status != "" && g.Status != status {
							t.Errorf("the list of %s shows a row that is %s", status, g.Status)
						}
					}
					if n := count(status == "", status == want); len(got) != n || n == 1 && got[0].Status != want {
						return fmt.Errorf("has %d rows; want %d, %s", len(got), n, want)
					}
					return nil
				})
			}
		}
		s.create(t, d)
		in("created", hook.Pending)
		_, err := s.UpdateDelivery(t.Context(), s.ended(d, hook.Failed), s.now)
		ok(t, "UpdateDelivery", err)
		in("failed", hook.Failed)
		d.Run, d.Seq = 2, 2
		d.Seq, err = s.RedeliverDelivery(t.Context(), d, s.now)
		ok(t, "RedeliverDelivery", err)
		in("redelivered", hook.Pending)
		_, err = s.RecordDelivered(t.Context(), s.ended(d, hook.Delivered), s.now)
		ok(t, "RecordDelivered", err)
		in("delivered", hook.Delivered)
		d.Run, d.Seq = 3, s.seq(t, d.Key())
		d.Seq, err = s.RedeliverDelivery(t.Context(), d, s.now)
		ok(t, "RedeliverDelivery", err)
		_, err = s.UpdateDelivery(t.Context(), s.ended(d, hook.Superseded), s.now)
		ok(t, "UpdateDelivery", err)
		in("superseded", hook.Superseded)
	})

	t.Run("expired rows are not listed", func(t *testing.T) {
		hookID := newID()
		var rows []hook.Delivery
		var want []string
		for i := range 12 {
			d := s.ended(s.newRow(hookID), hook.Failed)
			d.ExpiresAt = s.now/1000 + 60
			if i%5 == 0 {
				d.ExpiresAt += 60
				want = append(want, d.Event.ID)
			}
			rows = append(rows, d)
		}
		slices.Reverse(want)
		s.createAll(t, rows)
		for _, status := range []hook.Status{"", hook.Failed} {
			for _, limit := range []int{1, 2, 100} {
				eventually(t, fmt.Sprintf("status %q, limit %d", status, limit), func() error {
					got, err := s.rows(t.Context(), hookID, status, "", limit, s.now+minute)
					if err == nil && !slices.Equal(eventIDs(got), want) {
						err = fmt.Errorf("ListDeliveries = %q; want %q", eventIDs(got), want)
					}
					return err
				})
			}
		}
	})

	t.Run("a list goes beyond a megabyte", func(t *testing.T) {
		hookID := newID()
		var rows []hook.Delivery
		for range 6 {
			d := s.ended(s.newRow(hookID), hook.Failed)
			d.Event.Data = noise(200 << 10)
			s.create(t, d)
			rows = append(rows, d)
		}
		slices.Reverse(rows)
		for _, status := range []hook.Status{"", hook.Failed} {
			eventually(t, fmt.Sprintf("status %q", status), func() error {
				got, err := s.rows(t.Context(), hookID, status, "", 100, s.now)
				if err == nil && !slices.Equal(eventIDs(got), eventIDs(rows)) {
					err = fmt.Errorf("ListDeliveries = %q; want %q", eventIDs(got), eventIDs(rows))
				}
				return err
			})
		}
		got, err := s.Deliveries(t.Context(), []hook.DeliveryKey{rows[0].Key(), rows[1].Key(), rows[2].Key(), rows[3].Key(), rows[4].Key(), rows[5].Key()}, s.now)
		ok(t, "Deliveries", err)
		if len(got) != len(rows) {
			t.Errorf("Deliveries = %d rows; want %d", len(got), len(rows))
		}
	})
}

// seq returns a row's Seq as stored.
func (s *suite) seq(t *testing.T, key hook.DeliveryKey) int64 {
	t.Helper()
	d, err := s.Delivery(t.Context(), key, s.now)
	ok(t, "Delivery", err)
	return d.Seq
}

// recorded is what RecordDelivered stores of a row.
func recorded(d hook.Delivery) hook.Delivery {
	d.Seq = d.DeliveredSeq()
	return d
}
