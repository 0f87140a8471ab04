package boltstore

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
)

func sampleRow() (key []byte, d hook.Delivery) {
	d = hook.Delivery{
		HookID: "h", Event: hook.Event{ID: "e", Source: "s", Event: "ev", Time: time.Unix(1, 2).UTC(), Data: []byte(`{"a":1}`), Workspace: "w", Traceparent: "t"},
		Gen: 1, Status: hook.Failed, Reason: "r", Run: 2, Attempt: 3, Seq: 4, Tries: 5, Parks: 6, Nudges: 7,
		CreatedMS: 8, DeadlineMS: 9, DueMS: 10, WakeMS: 11, LeaseMS: 12,
		Attempts:  []hook.Attempt{{AtMS: 1, TookMS: 2, Code: 3, Error: "e", IP: "i"}, {}},
		Response:  &hook.Response{Code: 1, Headers: map[string]string{"a": "b", "c": "d"}, Body: "cut \xf0\x9f"},
		SlotKey:   "slot",
		SnoozeKey: "snooze",
	}
	key, _ = newKey("h", "e")
	return key, d
}

func TestRowDoc(t *testing.T) {
	key, d := sampleRow()

	t.Run("a row reads back, bytes that are not UTF-8 too", func(t *testing.T) {
		got, err := toRow(key, item{doc: rowDoc(d)})
		if diff := cmp.Diff(d, got); err != nil || diff != "" {
			t.Errorf("toRow: %v (-want +got):\n%s", err, diff)
		}
	})

	t.Run("one row is always written the same", func(t *testing.T) {
		for range 20 {
			if !bytes.Equal(rowDoc(d), rowDoc(d)) {
				t.Fatal("two documents of one row differ")
			}
		}
	})

	t.Run("fields that a later version adds are not in the way, those that an earlier one lacked are zero", func(t *testing.T) {
		doc := rowDoc(d)
		got, err := toRow(key, item{doc: append(slices.Clone(doc), 1, 2, 3)})
		if diff := cmp.Diff(d, got); err != nil || diff != "" {
			t.Errorf("toRow of a longer document: %v (-want +got):\n%s", err, diff)
		}
		want := d
		want.SnoozeKey = ""
		got, err = toRow(key, item{doc: doc[:len(doc)-len("snooze")-1]})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("toRow of a shorter document: %v (-want +got):\n%s", err, diff)
		}
	})

	t.Run("a document that ends within a field is an error", func(t *testing.T) {
		doc := rowDoc(d)
		if got, err := toRow(key, item{doc: doc[:len(doc)-1]}); err == nil {
			t.Errorf("toRow = %+v, nil; want an error", got)
		}
	})
}

// A file that an earlier version wrote has states without what was added since.
func TestStateDoc(t *testing.T) {
	_, d := sampleRow()
	for _, outbox := range []*hook.Event{nil, &d.Event} {
		full := hook.ProbeState{
			Address: "a", Health: hook.Unhealthy, SinceMS: 1, Success: 2, HTTP: 3, TCP: 4, Timeout: 5, Outbox: outbox,
			ProbedMS: 6, Reminded: 7, RemindedMS: 8, CertificateMS: 9, Ordered: "o", Endpoint: "e",
		}
		doc := stateDoc(full)
		got, err := toState("a", doc)
		if diff := cmp.Diff(full, got); err != nil || diff != "" {
			t.Errorf("toState: %v (-want +got):\n%s", err, diff)
		}
		old := full
		old.ProbedMS, old.Reminded, old.RemindedMS, old.CertificateMS, old.Ordered, old.Endpoint = 0, 0, 0, 0, "", ""
		got, err = toState("a", doc[:len(doc)-len("\x06\x07\x08\x09\x01o\x01e")])
		if diff := cmp.Diff(old, got); err != nil || diff != "" {
			t.Errorf("toState of an earlier version's document: %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestNumber(t *testing.T) {
	ns := []int64{math.MinInt64, -1 << 40, -256, -1, 0, 1, 255, 256, 1 << 40, math.MaxInt64}
	for i, n := range ns {
		if got := toNumber(number(n)); got != n {
			t.Errorf("toNumber(number(%d)) = %d", n, got)
		}
		if i > 0 && bytes.Compare(number(ns[i-1]), number(n)) >= 0 {
			t.Errorf("number(%d) does not sort before number(%d)", ns[i-1], n)
		}
	}
}

// Whatever is in the file, reading it ends, without a panic and without asking
// for more memory than the document has bytes for.
func FuzzDocuments(f *testing.F) {
	_, d := sampleRow()
	f.Add(rowDoc(d))
	f.Add(recordDoc(hook.Record{Changed: 1, Deleted: true, Data: []byte("x")}))
	f.Add(slotDoc(hook.Slot{Rev: 1, Sig: "s"}))
	f.Add(breakerDoc(hook.Breaker{Rev: 1, State: hook.BreakerOpen, Event: "e"}))
	f.Add(windowDoc(hook.Snooze{UntilMS: 1, By: "b"}))
	f.Add(leaseDoc(lease{gen: 1, summary: []byte("s")}))
	f.Add(stateDoc(hook.ProbeState{Health: hook.Healthy, Outbox: &d.Event}))
	f.Add(orderDoc(hook.HealthOrder{TargetID: "t", IP: "::1", Health: hook.Healthy}))
	f.Add(watchDoc(1))
	f.Add(claimDoc(hook.IngestClaim{BodyHash: "h", Pending: true}))
	f.Add(useDoc(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, doc []byte) {
		key, _ := newKey("h", "e")
		if d, err := toRow(key, item{doc: doc}); err == nil {
			again, err := toRow(key, item{doc: rowDoc(d)})
			if diff := cmp.Diff(d, again); err != nil || diff != "" {
				t.Errorf("a row that was read does not read back: %v\n%s", err, diff)
			}
		}
		_, _ = toRecord("k", "i", item{doc: doc})
		_, _ = toSlot(doc)
		_, _ = toWindow(doc)
		_, _ = toBreaker(key, doc)
		_, _ = toLease(doc)
		_, _ = toState("a", doc)
		_, _ = toOrder("o", doc)
		_, _ = toWatch(doc)
		_, _ = toClaim("t", "k", item{doc: doc})
		_, _ = toUse(doc)
		_, _ = toItem(doc)
	})
}
