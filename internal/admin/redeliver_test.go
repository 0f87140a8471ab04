package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"eventhooks/internal/admin"
	"eventhooks/internal/boltqueue"
	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

func TestAgain(t *testing.T) {
	at := time.UnixMilli(1795284000123)
	ended := hook.Delivery{
		HookID: "h", Event: hook.Event{ID: "e", Source: "crud", Event: "consumers", Data: []byte(`{}`)},
		Gen: 3, Status: hook.Failed, Reason: hook.ReasonExhausted, Run: 2, Attempt: 12, Seq: 40, Tries: 1, Parks: 2, Nudges: 3,
		CreatedMS: 5, DeadlineMS: 6, LeaseMS: 9, Attempts: []hook.Attempt{{AtMS: 7, Code: 500}}, Response: &hook.Response{Code: 500, Body: "oops"},
		SlotKey: "slot", SnoozeKey: "snooze", ExpiresAt: 1795284999,
	}
	want := ended
	want.Gen, want.Status, want.Reason, want.Run = 7, hook.Pending, "", 3
	want.Attempt, want.Tries, want.Parks, want.Nudges = 0, 0, 0, 0
	want.DueMS, want.WakeMS, want.DeadlineMS = at.UnixMilli(), at.UnixMilli()+120_000, at.UnixMilli()+5*24*3600_000
	want.LeaseMS, want.ExpiresAt = 0, 0
	before := ended
	if diff := cmp.Diff(want, admin.Again(ended, hook.Hook{Gen: 7}, at)); diff != "" {
		t.Errorf("Again (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, ended); diff != "" {
		t.Errorf("Again changed the row it was given:\n%s", diff)
	}
	want.DeadlineMS = at.UnixMilli() + 60_000
	if diff := cmp.Diff(want, admin.Again(ended, hook.Hook{Gen: 7, Retry: hook.Retry{MaxAge: 60}}, at)); diff != "" {
		t.Errorf("Again for a hook with a max_age of 60 s (-want +got):\n%s", diff)
	}
}

// meddler stands between the service and its store: what it is told to do
// happens right before a row is redelivered, or instead.
type meddler struct {
	admin.Store
	mu     sync.Mutex
	before func(d hook.Delivery) error // its error is the call's
}

// meddle sets what happens before each redelivery; once says that it happens
// before the next one only.
func (m *meddler) meddle(once bool, do func(d hook.Delivery) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = do
	if once {
		m.before = func(d hook.Delivery) error {
			m.mu.Lock()
			m.before = nil
			m.mu.Unlock()
			return do(d)
		}
	}
}

func (m *meddler) RedeliverDelivery(ctx context.Context, d hook.Delivery, now int64) (int64, error) {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		if err := before(d); err != nil {
			return 0, err
		}
	}
	return m.Store.RedeliverDelivery(ctx, d, now)
}

// meddled returns a server on a meddler, and a hook that does not ping.
func meddled(t *testing.T) (s *server, m *meddler, id string) {
	t.Helper()
	m = &meddler{}
	s = newServerOn(t, func(real admin.Store) admin.Store {
		m.Store = real
		return m
	})
	id = s.must(201, "POST", "/event-hooks", `{"source":"crud","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST","body":"x"}}`)["id"].(string)
	return s, m, id
}

// eventID is the id of an event that was received n seconds after clock.
func eventID(n int) string {
	ms := clock.UnixMilli() + int64(n)*1000
	return fmt.Sprintf("%08x-%04x-7000-8000-%012d", ms>>16, ms&0xffff, n+1_000_000)
}

// row stores a delivery of the hook and returns it as it is stored.
func (s *server) row(hookID string, n int, edit func(*hook.Delivery)) hook.Delivery {
	s.t.Helper()
	now := s.now().UnixMilli()
	d := hook.Delivery{
		HookID: hookID, Event: hook.Event{ID: eventID(n), Source: "crud", Event: "consumers", Time: clock, Data: []byte(`{"n":1}`)},
		Gen: 1, Status: hook.Failed, Reason: hook.ReasonExhausted, Run: 1, Seq: 5, Attempt: 3,
		CreatedMS: now, DeadlineMS: now + 1000, ExpiresAt: now/1000 + 1000,
		Attempts: []hook.Attempt{{AtMS: now, TookMS: 5, Code: 500, Error: "the receiver answered 500"}}, Response: &hook.Response{Code: 500, Body: "oops"},
	}
	if edit != nil {
		edit(&d)
	}
	if created, err := s.store.CreateDelivery(context.Background(), d, now); err != nil || !created {
		s.t.Fatalf("CreateDelivery = %t, %v", created, err)
	}
	return d
}

func pending(d *hook.Delivery) {
	d.Status, d.Reason, d.ExpiresAt, d.Response = hook.Pending, "", 0, nil
	d.DueMS, d.WakeMS = d.CreatedMS, d.CreatedMS+120_000
}

// stored returns a delivery's row.
func (s *server) stored(key hook.DeliveryKey) hook.Delivery {
	s.t.Helper()
	d, err := s.store.Delivery(context.Background(), key, s.now().UnixMilli())
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func redeliverPath(d hook.Delivery) string {
	return "/event-hooks/" + d.HookID + "/deliveries/" + d.Event.ID + "/redeliver"
}

func TestRedeliver(t *testing.T) {
	t.Run("a row of any status begins another run, and is woken", func(t *testing.T) {
		s, _, id := meddled(t)
		for i, edit := range []func(*hook.Delivery){
			nil, pending,
			func(d *hook.Delivery) { d.Status, d.Reason = hook.Delivered, "" },
			func(d *hook.Delivery) { d.Status, d.Reason = hook.Superseded, hook.ReasonNewer },
		} {
			old := s.row(id, i, edit)
			s.advance(time.Second)
			got := s.do("POST", redeliverPath(old), "")
			want := admin.Again(old, hook.Hook{Gen: 1}, s.now())
			want.Seq++
			if diff := cmp.Diff(want, s.stored(old.Key())); diff != "" {
				t.Errorf("%s: row (-want +got):\n%s", old.Status, diff)
			}
			if row := got.json(t); got.status != 202 || row["status"] != "pending" || row["run"] != 2.0 || row["due_at"] != "2026-11-21T18:00:0"+fmt.Sprint(i+1)+".123Z" || len(row["attempts"].([]any)) != 1 {
				t.Errorf("%s: answer %d %s", old.Status, got.status, got.body)
			}
			if diff := cmp.Diff([]hook.Wake{{DeliveryKey: old.Key(), Seq: want.Seq}}, s.queue.wakes(t)); diff != "" {
				t.Errorf("%s: wake-ups (-want +got):\n%s", old.Status, diff)
			}
		}
	})
	t.Run("the row comes before the wake-up", func(t *testing.T) {
		s, _, id := meddled(t)
		old := s.row(id, 0, nil)
		s.queue.before = func([]hook.Message) {
			if d := s.stored(old.Key()); d.Run != 2 || d.Seq <= old.Seq {
				t.Errorf("when the wake-up is sent the row is of run %d, seq %d; want run 2 and another seq than %d", d.Run, d.Seq, old.Seq)
			}
		}
		s.must(202, "POST", redeliverPath(old), "")
	})
	t.Run("a wake-up that is lost is the sweep's: the row is due, and the log says so", func(t *testing.T) {
		s, _, id := meddled(t)
		old := s.row(id, 0, nil)
		s.queue.err = errors.New("queue is down")
		s.must(202, "POST", redeliverPath(old), "{}")
		if log := s.log.String(); !strings.Contains(log, "the sweep will find") || !strings.Contains(log, id) {
			t.Errorf("log = %s", log)
		}
		overdue := func() int {
			t.Helper()
			rows, err := s.store.OverdueDeliveries(context.Background(), old.Key().WakeShard(), s.now().UnixMilli(), 10)
			if err != nil {
				t.Fatal(err)
			}
			return len(rows)
		}
		if n := overdue(); n != 0 {
			t.Errorf("at once %d rows are overdue; want none", n)
		}
		s.advance(2 * time.Minute)
		if n := overdue(); n != 1 {
			t.Errorf("after two minutes %d rows are overdue; want 1", n)
		}
	})
	t.Run("a store that fails leaves the row, and no wake-up", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, nil)
		m.meddle(false, func(hook.Delivery) error { return errors.New("table is gone") })
		s.must(500, "POST", redeliverPath(old), "")
		if diff := cmp.Diff(old, s.stored(old.Key())); diff != "" {
			t.Errorf("row (-before +after):\n%s", diff)
		}
		if wakes := s.queue.wakes(t); len(wakes) > 0 {
			t.Errorf("wake-ups %v; want none", wakes)
		}
	})
	t.Run("a row of a hook that was made anew under its id is sent by the new one", func(t *testing.T) {
		s, _, id := meddled(t)
		old := s.row(id, 0, nil)
		s.must(204, "DELETE", "/event-hooks/"+id, "")
		s.must(404, "POST", redeliverPath(old), "")
		s.must(201, "POST", "/event-hooks", `{"id":"`+id+`","source":"crud","handler":"log"}`)
		s.must(202, "POST", redeliverPath(old), "")
		if d := s.stored(old.Key()); d.Gen != 3 {
			t.Errorf("gen %d; want 3, that of the hook as it is", d.Gen)
		}
	})
	t.Run("a disabled hook is refused, and nothing happens", func(t *testing.T) {
		s, _, id := meddled(t)
		old := s.row(id, 0, nil)
		s.must(200, "PATCH", "/event-hooks/"+id, `{"enabled":false}`)
		for _, path := range []string{redeliverPath(old), "/event-hooks/" + id + "/redeliver"} {
			if got := s.must(409, "POST", path, ""); got["message"] != "the hook is disabled: enable it first" {
				t.Errorf("%s: %v", path, got)
			}
		}
		if got := s.must(200, "POST", "/event-hooks/"+id+"/redeliver", `{"dry_run":true}`); got["matched"] != 1.0 {
			t.Errorf("a dry run = %v; want 1 matched", got)
		}
		if diff := cmp.Diff(old, s.stored(old.Key())); diff != "" {
			t.Errorf("row (-before +after):\n%s", diff)
		}
	})
	t.Run("a row that has expired is not there", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, nil)
		m.meddle(true, func(hook.Delivery) error { s.advance(time.Hour); return hook.ErrStale })
		s.must(404, "POST", redeliverPath(old), "")
		s.must(404, "POST", redeliverPath(old), "")
	})
}

// TestRedeliver_races: what deliver and other people do to the row between the
// moment it is read and the moment it is written.
func TestRedeliver_races(t *testing.T) {
	ctx := context.Background()
	t.Run("an attempt that begins meanwhile does not stop it, and its outcome changes nothing", func(t *testing.T) {
		for _, outcome := range []string{"delivered", "failed"} {
			s, m, id := meddled(t)
			old := s.row(id, 0, pending)
			var claimed hook.Delivery
			m.meddle(true, func(hook.Delivery) (err error) {
				claimed, err = s.store.ClaimDelivery(ctx, hook.Wake{DeliveryKey: old.Key(), Seq: 5}, clock.UnixMilli()+60_000, clock.UnixMilli())
				return err
			})
			if row := s.must(202, "POST", redeliverPath(old), ""); row["run"] != 2.0 {
				t.Errorf("run %v; want 2", row["run"])
			}
			begun := s.stored(old.Key())
			if begun.Run != 2 || begun.LeaseMS != 0 || begun.Tries != 0 {
				t.Errorf("row %+v; want run 2, owned by nobody", begun)
			}
			if diff := cmp.Diff([]hook.Wake{{DeliveryKey: old.Key(), Seq: begun.Seq}}, s.queue.wakes(t)); diff != "" {
				t.Errorf("wake-ups (-want +got):\n%s", diff)
			}
			claimed.Attempt++
			if outcome == "delivered" {
				claimed.Status, claimed.ExpiresAt = hook.Delivered, clock.Unix()+1000
				if recorded, err := s.store.RecordDelivered(ctx, claimed, clock.UnixMilli()); recorded || err != nil {
					t.Errorf("RecordDelivered of run 1 = %t, %v; want false", recorded, err)
				}
			} else {
				claimed.Status, claimed.Reason, claimed.ExpiresAt = hook.Failed, hook.ReasonExhausted, clock.Unix()+1000
				if _, err := s.store.UpdateDelivery(ctx, claimed, clock.UnixMilli()); !errors.Is(err, hook.ErrStale) {
					t.Errorf("UpdateDelivery of run 1 = %v; want ErrStale", err)
				}
			}
			if diff := cmp.Diff(begun, s.stored(old.Key())); diff != "" {
				t.Errorf("%s: the outcome of run 1 changed the row (-before +after):\n%s", outcome, diff)
			}
		}
	})
	t.Run("an attempt that ends meanwhile does not stop it", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, pending)
		m.meddle(true, func(hook.Delivery) error {
			d := old
			d.Status, d.ExpiresAt, d.Attempt = hook.Delivered, clock.Unix()+1000, 4
			_, err := s.store.RecordDelivered(ctx, d, clock.UnixMilli())
			return err
		})
		if row := s.must(202, "POST", redeliverPath(old), ""); row["run"] != 2.0 || row["status"] != "pending" {
			t.Errorf("answer %v; want run 2, pending", row)
		}
	})
	t.Run("a sweep that nudges meanwhile does not stop it, and a late one wakes nothing", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, pending)
		o := hook.Overdue{Wake: hook.Wake{DeliveryKey: old.Key(), Seq: 5}, WakeMS: old.WakeMS}
		m.meddle(true, func(hook.Delivery) error {
			nudged, err := s.store.NudgeDelivery(ctx, o, old.WakeMS+900_000)
			if !nudged {
				t.Errorf("the sweep's nudge before = %t; want true", nudged)
			}
			return err
		})
		s.advance(time.Second)
		s.must(202, "POST", redeliverPath(old), "")
		if d := s.stored(old.Key()); d.Nudges != 0 || d.WakeMS != s.now().UnixMilli()+120_000 || d.Run != 2 {
			t.Errorf("row %+v; want run 2, no nudges, looked at in two minutes", d)
		}
		if nudged, err := s.store.NudgeDelivery(ctx, o, old.WakeMS+900_000); nudged || err != nil {
			t.Errorf("the same nudge after = %t, %v; want false", nudged, err)
		}
		if _, err := s.store.ClaimDelivery(ctx, o.Wake, clock.UnixMilli(), clock.UnixMilli()); !errors.Is(err, hook.ErrStale) {
			t.Errorf("a claim by the old wake-up = %v; want ErrStale", err)
		}
	})
	t.Run("who comes second is answered with what the first began", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, nil)
		m.meddle(true, func(hook.Delivery) error {
			s.must(202, "POST", redeliverPath(old), "")
			return nil
		})
		if row := s.must(202, "POST", redeliverPath(old), ""); row["run"] != 2.0 {
			t.Errorf("run %v; want 2: one redelivery for two that ask at once", row["run"])
		}
		if wakes := s.queue.wakes(t); len(wakes) != 1 {
			t.Errorf("wake-ups %v; want one", wakes)
		}
	})
	t.Run("of many at once each wake-up is of a run, and the last run's is among them", func(t *testing.T) {
		s, _, id := meddled(t)
		old := s.row(id, 0, nil)
		if got := atOnce(8, func(int) int { return s.do("POST", redeliverPath(old), "").status }); got[202] != 8 {
			t.Errorf("answers %v; want eight 202", got)
		}
		d, wakes := s.stored(old.Key()), s.queue.wakes(t)
		seen := map[int64]bool{}
		for _, w := range wakes {
			if seen[w.Seq] {
				t.Errorf("two wake-ups of seq %d", w.Seq)
			}
			seen[w.Seq] = true
		}
		if int64(len(wakes)) != d.Run-1 || !seen[d.Seq] {
			t.Errorf("run %d, seq %d, wake-ups %v; want one for each run, the last one's among them", d.Run, d.Seq, wakes)
		}
	})
	t.Run("a row that always changes is 503", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, nil)
		m.meddle(false, func(hook.Delivery) error { return hook.ErrStale })
		if got := s.do("POST", redeliverPath(old), ""); got.status != 503 {
			t.Errorf("status %d; want 503", got.status)
		}
	})
}

func TestRedeliverMany(t *testing.T) {
	t.Run("by status and time, newest first", func(t *testing.T) {
		s, _, id := meddled(t)
		path := "/event-hooks/" + id + "/redeliver"
		for i := range 10 {
			s.row(id, i*10, nil)
		}
		s.row(id, 200, pending)
		at := func(n int) string {
			return clock.Add(time.Duration(n) * time.Second).Format(`"` + time.RFC3339Nano + `"`)
		}
		for _, c := range []struct {
			body string
			want float64
		}{
			{`{"dry_run":true}`, 10},
			{`{"dry_run":true,"status":"failed","since":null,"until":null}`, 10},
			{`{"dry_run":true,"status":"pending"}`, 1},
			{`{"dry_run":true,"status":"delivered"}`, 0},
			{`{"dry_run":true,"status":"superseded"}`, 0},
			{`{"dry_run":true,"since":` + at(50) + `}`, 5},
			{`{"dry_run":true,"until":` + at(50) + `}`, 5},
			{`{"dry_run":true,"since":` + at(20) + `,"until":` + at(50) + `}`, 3},
			{fmt.Sprintf(`{"dry_run":true,"since":%d}`, clock.Unix()+50), 5},
			{fmt.Sprintf(`{"dry_run":true,"until":%d}`, clock.Unix()+51), 6},
			{`{"dry_run":true,"until":0}`, -400},
			{`{"dry_run":true,"until":1}`, 0},
			{`{"dry_run":true,"since":253402300799}`, 0},
			{`{"since":` + at(80) + `}`, 2},
		} {
			if c.want < 0 {
				s.must(400, "POST", path, c.body)
				continue
			}
			got := s.must(200, "POST", path, c.body)
			queued := c.want
			if strings.Contains(c.body, "dry_run") {
				queued = 0
			}
			if diff := cmp.Diff(map[string]any{"matched": c.want, "queued": queued, "next": nil}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.body, diff)
			}
		}
		if wakes := s.queue.wakes(t); len(wakes) != 2 {
			t.Errorf("wake-ups %v; want 2", wakes)
		}
		for i := range 10 {
			want := int64(1)
			if i >= 8 {
				want = 2
			}
			if d := s.stored(hook.DeliveryKey{HookID: id, EventID: eventID(i * 10)}); d.Run != want {
				t.Errorf("row %d is of run %d; want %d", i, d.Run, want)
			}
		}
	})
	t.Run("at most 500 a call, and the same body goes on under next", func(t *testing.T) {
		s, _, id := meddled(t)
		for i := range 1100 {
			s.row(id, i, nil)
		}
		next, matched := "/event-hooks/"+id+"/redeliver", []float64{}
		for next != "" {
			got := s.must(200, "POST", next, `{"since":`+fmt.Sprint(clock.Unix()+50)+`}`)
			if got["queued"] != got["matched"] {
				t.Errorf("queued %v of %v", got["queued"], got["matched"])
			}
			matched = append(matched, got["matched"].(float64))
			next, _ = got["next"].(string)
		}
		if diff := cmp.Diff([]float64{500, 500, 50}, matched); diff != "" {
			t.Errorf("matched (-want +got):\n%s", diff)
		}
		if wakes := s.queue.wakes(t); len(wakes) != 1050 {
			t.Errorf("%d wake-ups; want 1050", len(wakes))
		}
		for i := range 1100 {
			d := s.stored(hook.DeliveryKey{HookID: id, EventID: eventID(i)})
			if redelivered := i >= 50; (d.Run == 2) != redelivered {
				t.Fatalf("row %d is of run %d", i, d.Run)
			}
		}
	})
	t.Run("a repeat finds what is left", func(t *testing.T) {
		s, m, id := meddled(t)
		for i := range 40 {
			s.row(id, i, nil)
		}
		var calls atomic.Int64
		m.meddle(false, func(hook.Delivery) error {
			if calls.Add(1) > 10 {
				return errors.New("table is gone")
			}
			return nil
		})
		s.must(500, "POST", "/event-hooks/"+id+"/redeliver", "")
		wakes := s.queue.wakes(t)
		if len(wakes) != 10 {
			t.Errorf("%d wake-ups of what was stored before the store failed; want 10", len(wakes))
		}
		m.meddle(false, nil)
		if got := s.must(200, "POST", "/event-hooks/"+id+"/redeliver", ""); got["matched"] != 30.0 || got["queued"] != 30.0 {
			t.Errorf("a repeat = %v; want the other 30", got)
		}
	})
	t.Run("one that was being attempted, and succeeds before it is taken, is not sent again", func(t *testing.T) {
		s, m, id := meddled(t)
		old := s.row(id, 0, pending)
		claimed, err := s.store.ClaimDelivery(context.Background(), hook.Wake{DeliveryKey: old.Key(), Seq: old.Seq}, clock.UnixMilli()+60_000, clock.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		m.meddle(true, func(hook.Delivery) error {
			_, err := s.store.RecordDelivered(context.Background(), claimed, clock.UnixMilli())
			return err
		})
		got := s.must(200, "POST", "/event-hooks/"+id+"/redeliver", `{"status":"pending"}`)
		if d := s.stored(old.Key()); got["matched"] != 0.0 || d.Status != hook.Delivered || d.Run != 1 || len(s.queue.wakes(t)) != 0 {
			t.Errorf("answer %v, and the row is %s, run %d; want it left as delivered", got, d.Status, d.Run)
		}
	})
	t.Run("one that changes each time it is tried does not hold up the others", func(t *testing.T) {
		s, m, id := meddled(t)
		for i := range 3 {
			s.row(id, i, nil)
		}
		m.meddle(false, func(d hook.Delivery) error {
			if d.Event.ID == eventID(1) {
				return hook.ErrStale
			}
			return nil
		})
		got := s.must(200, "POST", "/event-hooks/"+id+"/redeliver", "")
		if got["matched"] != 2.0 || got["queued"] != 2.0 || len(s.queue.wakes(t)) != 2 {
			t.Errorf("answer %v; want the two others", got)
		}
	})
	t.Run("a row that changes meanwhile is judged by what it is then", func(t *testing.T) {
		s, m, id := meddled(t)
		for i := range 4 {
			s.row(id, i, nil)
		}
		ctx := context.Background()
		m.meddle(false, func(d hook.Delivery) error {
			switch d.Event.ID {
			case eventID(0): // another person redelivers it
				_, err := s.store.RedeliverDelivery(ctx, d, clock.UnixMilli())
				return errors.Join(err)
			case eventID(1): // it was delivered after all: an attempt's record came late
				late := d
				late.Run, late.Status, late.ExpiresAt = 1, hook.Delivered, clock.Unix()+1000
				_, err := s.store.RecordDelivered(ctx, late, clock.UnixMilli())
				return err
			case eventID(2): // it expires
				return hook.ErrStale
			}
			return nil
		})
		m.Store = &forgetful{Store: m.Store, id: eventID(2)}
		got := s.must(200, "POST", "/event-hooks/"+id+"/redeliver", "")
		if got["matched"] != 1.0 || got["queued"] != 1.0 || len(s.queue.wakes(t)) != 1 {
			t.Errorf("answer %v; want one of four: the others are not failed any more", got)
		}
		if d := s.stored(hook.DeliveryKey{HookID: id, EventID: eventID(1)}); d.Status != hook.Delivered || d.Run != 1 {
			t.Errorf("what was delivered meanwhile is %s, run %d; want it left alone", d.Status, d.Run)
		}
	})
	t.Run("it stops in time, and next is what is left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, m, id := meddled(t)
			for i := range 500 {
				s.row(id, i, nil)
			}
			m.meddle(false, func(hook.Delivery) error { time.Sleep(time.Second); return nil }) // a slow table, in the bubble's time
			begin, queued, calls := time.Now(), 0.0, 0
			for next := "/event-hooks/" + id + "/redeliver"; next != ""; calls++ {
				got := s.must(200, "POST", next, "")
				if took := time.Since(begin); took > 25*time.Second {
					t.Errorf("a call took %v", took)
				}
				begin = time.Now()
				queued += got["queued"].(float64)
				next, _ = got["next"].(string)
			}
			if queued != 500 || calls < 2 {
				t.Errorf("queued %v in %d calls; want 500 in some", queued, calls)
			}
			if wakes := s.queue.wakes(t); len(wakes) != 500 {
				t.Errorf("%d wake-ups; want 500", len(wakes))
			}
		})
	})
	t.Run("without any time it is 503", func(t *testing.T) {
		s, _, id := meddled(t)
		s.row(id, 0, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "POST", "/event-hooks/"+id+"/redeliver", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer admin-token")
		w := newRecorder()
		s.svc.ServeHTTP(w, r)
		if w.status != 503 {
			t.Errorf("status %d; want 503", w.status)
		}
	})
	t.Run("what is wrong is told", func(t *testing.T) {
		s, _, id := meddled(t)
		path := "/event-hooks/" + id + "/redeliver"
		for body, want := range map[string]any{
			`{"status":"lost"}`:         map[string]any{"status": "expected one of: pending, delivered, failed, superseded"},
			`{"since":"yesterday"}`:     map[string]any{"since": "expected a time: RFC 3339, or Unix seconds"},
			`{"since":-1,"until":1e99}`: map[string]any{"since": "expected a time: RFC 3339, or Unix seconds", "until": "expected a time: RFC 3339, or Unix seconds"},
			`{"since":1.5,"until":[]}`:  map[string]any{"since": "expected a time: RFC 3339, or Unix seconds", "until": "expected a time: RFC 3339, or Unix seconds"},
			`{"since":5,"until":5}`:     map[string]any{"until": "must be after since"},
			`{"dry_run":"yes","x":1}`:   map[string]any{"dry_run": "expected a boolean", "x": "unknown field"},
		} {
			if got := s.must(400, "POST", path, body); !cmp.Equal(want, got["fields"]) {
				t.Errorf("%s: fields %v; want %v", body, got["fields"], want)
			}
		}
		for _, query := range []string{"?offset=x", "?offset=WyJ4Il0", "?offset=" + strings.Repeat("A", 3000), "?offset=%zz"} {
			s.must(400, "POST", path+query, "")
		}
		s.must(404, "POST", "/event-hooks/00000000-0000-4000-8000-000000000000/redeliver", "")
		s.must(400, "POST", "/event-hooks/x/redeliver", "")
	})
}

// forgetful has lost one row by the time it is read again.
type forgetful struct {
	admin.Store
	id string
}

func (f *forgetful) Delivery(ctx context.Context, key hook.DeliveryKey, now int64) (hook.Delivery, error) {
	if key.EventID == f.id {
		return hook.Delivery{}, hook.ErrNotFound
	}
	return f.Store.Delivery(ctx, key, now)
}

// TestRedeliver_isDelivered goes on where the answer ends: deliver attempts
// what was redelivered, whatever slot, window and filter say, by the hook as it
// is, and the row ends on record.
func TestRedeliver_isDelivered(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name    string
		verdict hook.Verdict
		want    hook.Status
		reason  string
	}{
		{"to the end", hook.Success, hook.Delivered, ""},
		{"to a failure that nothing cures", hook.Final, hook.Failed, hook.ReasonGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, id := meddled(t)
			// A newer event of its slot was told, its window is open, its data
			// do not fit the filter, and the hook has another URL by now.
			s.must(200, "PATCH", "/event-hooks/"+id, `{"on_change":true,"snooze":3600,"filter":{"n":[2]},"config":{"url":"http://elsewhere.test/"}}`)
			old := s.row(id, 0, func(d *hook.Delivery) {
				d.Status, d.Reason, d.SlotKey, d.SnoozeKey = hook.Superseded, hook.ReasonNewer, "1#crud/consumers#all", "1#crud/consumers#w"
			})
			err := s.store.Admit(ctx, hook.Admission{
				HookID: id, NowMS: s.now().UnixMilli(),
				Slot:    &hook.SlotWrite{Key: old.SlotKey, Slot: hook.Slot{Rev: 1, Sig: "news", Seen: eventID(9), By: eventID(9)}},
				Snoozes: []hook.SnoozeClaim{{Key: old.SnoozeKey, Snooze: hook.Snooze{UntilMS: s.now().UnixMilli() + 3600_000, By: eventID(9)}, ExpiresAt: s.now().Unix() + 7200}},
			})
			if err != nil {
				t.Fatal(err)
			}
			s.must(202, "POST", redeliverPath(old), "")

			act := &scripted{verdict: c.verdict, reason: c.reason}
			db, err := bbolt.Open(filepath.Join(t.TempDir(), "queue"), 0o600, &bbolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			q, err := boltqueue.Open(db, "events", boltqueue.Options{})
			if err != nil {
				t.Fatal(err)
			}
			svc, err := deliver.New(deliver.Options{Store: s.store, Events: q, Retry: s.queue, Action: act, Now: s.now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if failed := svc.Deliver(ctx, []hook.Received{{ID: "m", Body: s.queue.sent[len(s.queue.sent)-1].Body, Receives: 1}}); len(failed) > 0 {
				t.Fatalf("Deliver refused %v", failed)
			}
			if len(act.seen) != 1 || act.seen[0].Config.URL != "http://elsewhere.test/" {
				t.Errorf("attempts by %+v; want one, by the hook as it is", act.seen)
			}
			if d := s.stored(old.Key()); d.Status != c.want || d.Reason != c.reason || d.Run != 2 || d.Attempt != 1 || len(d.Attempts) != 2 || d.ExpiresAt == 0 {
				t.Errorf("row %+v; want it %s, run 2, one attempt more", d, c.want)
			}
			slots, err := s.store.Slots(ctx, id, []string{old.SlotKey}, s.now().UnixMilli())
			if err != nil || slots[old.SlotKey].Sig != "news" {
				t.Errorf("slot %+v, %v; want it left to the newer event", slots, err)
			}
		})
	}
}

// scripted ends every attempt alike.
type scripted struct {
	verdict hook.Verdict
	reason  string
	seen    []hook.Hook
}

func (a *scripted) Do(_ context.Context, h hook.Hook, _ hook.Event, _ time.Time) hook.Outcome {
	a.seen = append(a.seen, h)
	out := hook.Outcome{Verdict: a.verdict, Reason: a.reason, Code: 200}
	if a.verdict != hook.Success {
		out.Code, out.Error = 410, "the receiver answered 410 Gone"
	}
	return out
}

// hookOf returns a hook as it is stored.
func (s *server) hookOf(id string) hook.Hook {
	s.t.Helper()
	r, err := s.store.Get(context.Background(), hook.KindHook, id, s.now().UnixMilli())
	if err != nil {
		s.t.Fatal(err)
	}
	h, err := record.ToHook(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}
