package queuetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
)

// Options are what a subtest wants of its queue.
type Options struct {
	// MaxReceives is how often a message is handed out before it goes to the
	// dead-letter queue; 0 means for ever, and no dead-letter queue.
	MaxReceives int
	// Calm is set by subtests about what nearly always happens. An adapter that
	// makes up rare faults (a batch that fails in part, a message that comes
	// twice, an empty answer to a call that does not wait) leaves them out.
	Calm bool
}

// Open makes a new, empty queue, and its dead-letter queue if MaxReceives is
// not 0. It ends the test when it cannot.
type Open func(t *testing.T, o Options) (q, dead Queue)

// Run holds a queue to the promise, in real time. Subtests run in parallel:
// nearly all of their time is waiting.
func Run(t *testing.T, open Open) {
	RunIn(t, func(t *testing.T, test func(*testing.T)) { test(t) }, open)
}

// RunIn is Run with each subtest called through bubble: synctest.Test makes the
// waiting free where nothing but timers is waited for.
func RunIn(t *testing.T, bubble func(*testing.T, func(*testing.T)), open Open) {
	for _, s := range subtests {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) { s.test(t, open) })
		})
	}
}

// late is how much later than promised a thing may happen before a subtest
// calls it wrong. It only bounds how long a failing test waits: a queue is
// never early, but a loaded machine may be late.
const late = 15 * time.Second

// hidden is a visibility that no subtest outlives.
const hidden = 10 * time.Minute

var subtests = []struct {
	name string
	test func(*testing.T, Open)
}{
	{"a message comes as it was sent", comesAsSent},
	{"sending nothing is no error", sendsNothing},
	{"a batch has no bounds for the sender", splitsByNumber},
	{"what is over 1 MiB together goes in several batches", splitsByBytes},
	{"a message of 1 MiB passes, a larger one fails alone", boundsBytes},
	{"a message with a character that SQS refuses fails alone", boundsCharacters},
	{"a message with a delay or a group out of range fails alone", boundsDelayAndGroup},
	{"a context that is over sends nothing", sendsNothingTooLate},
	{"a delay is never cut short", delays},
	{"a message in flight is hidden, and visible again afterwards", hides},
	{"a visibility of zero hides for a second at most", hidesNothing},
	{"Release makes visible at once", releasesAtOnce},
	{"Release with a delay hides until then, sooner or later than the visibility", releasesLater},
	{"what is deleted does not come again, and may be deleted again", deletes},
	{"what is visible again can still be deleted", deletesLate},
	{"an old receipt is harmless", oldReceipt},
	{"a receipt that never was one is an error", noReceipt},
	{"many are deleted at once", deletesMany},
	{"Receive waits for what is sent meanwhile", waitsForSend},
	{"Receive waits no longer than it is told", waitsNoLonger},
	{"Receive ends with its context", waitEnds},
	{"Receive returns no more than it is asked for", receivesNoMore},
	{"Receive refuses numbers out of range", boundsReceive},
	{"a message received too often goes to the dead-letter queue", deadLetters},
	{"a message that was deleted in time does not", noDeadLetters},
	{"nothing is lost when many send, receive and delete at once", losesNothing},
	{"nothing is lost when consumers die", losesNothingToTheDead},
}

func comesAsSent(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	before := time.Now()
	msgs := []hook.Message{
		{Body: `{"a":"b"}`},
		{Body: "\t\n\r ~\u007f\u0085\u2028\ud7ff\ue000\ufffd\U00010000\U0010ffff <&>\"'\\"},
		{Body: " space around ", Group: "3d4c5ba6-6c1b-4ae9-9a0c-7a8ff0a0b6a5"},
		{Body: "x", Group: strings.Repeat("!~", 64)},
	}
	send(t, q, msgs...)
	ids := map[string]bool{}
	for _, r := range receive(t, q, len(msgs)) {
		i := slices.IndexFunc(msgs, func(m hook.Message) bool { return m.Body == r.Body })
		if i < 0 {
			t.Errorf("received the body %q, which was not sent", r.Body)
			continue
		}
		if r.Group != msgs[i].Group {
			t.Errorf("received the group %q; want %q", r.Group, msgs[i].Group)
		}
		if r.Receives != 1 {
			t.Errorf("Receives = %d at the first receive; want 1", r.Receives)
		}
		if r.ID == "" || ids[r.ID] {
			t.Errorf("received the id %q; want one for each message", r.ID)
		}
		ids[r.ID] = true
		if r.Receipt == "" {
			t.Error("received no receipt")
		}
		if r.SentAt.Before(before.Add(-time.Minute)) || r.SentAt.After(time.Now().Add(time.Minute)) || r.SentAt.Location() != time.UTC {
			t.Errorf("SentAt = %s; want the time of sending, about %s, in UTC", r.SentAt, before.UTC())
		}
	}
}

func sendsNothing(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	if failed, err := q.Send(t.Context(), nil); failed != nil || err != nil {
		t.Errorf("Send() = %v, %v; want nil, nil", failed, err)
	}
}

func splitsByNumber(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	var msgs []hook.Message
	for i := range 34 {
		msgs = append(msgs, hook.Message{Body: fmt.Sprint(i)})
	}
	send(t, q, msgs...)
	receive(t, q, len(msgs))
}

func splitsByBytes(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	var msgs []hook.Message
	for i := range 7 { // no two fit together, no three of the small ones
		msgs = append(msgs, hook.Message{Body: fmt.Sprint(i) + strings.Repeat("x", 600<<10-i*40<<10)})
	}
	send(t, q, msgs...)
	receive(t, q, len(msgs))
}

func boundsBytes(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	fails(t, q, []hook.Message{
		{Body: "1" + strings.Repeat("x", hook.MaxMessageBytes-1)},
		{Body: "2" + strings.Repeat("x", hook.MaxMessageBytes)},
		{Body: "3" + strings.Repeat("é", hook.MaxMessageBytes/2)}, // bytes count, not characters
		{Body: "4"},
		{Body: ""},
		{Body: "5" + strings.Repeat("x", 2*hook.MaxMessageBytes)},
		{Body: "6"},
	}, 1, 2, 4, 5)
}

func boundsCharacters(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	var msgs []hook.Message
	var bad []int
	for _, s := range []string{
		"\x00", "\x01", "\x08", "\x0b", "\x0c", "\x0e", "\x1f", "\ufffe", "\uffff",
		"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", // not UTF-8
	} {
		bad = append(bad, len(msgs))
		msgs = append(msgs, hook.Message{Body: "bad" + s}, hook.Message{Body: fmt.Sprintf("good %q", s)})
	}
	fails(t, q, msgs, bad...)
}

func boundsDelayAndGroup(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	far := hook.Message{Body: "far", Delay: hook.MaxDelay}
	fails(t, q, []hook.Message{
		far,
		{Body: "too far", Delay: hook.MaxDelay + 1},
		{Body: "in the past", Delay: -time.Second},
		{Body: "no group", Group: "a b"},
		{Body: "too much group", Group: strings.Repeat("g", 129)},
		{Body: "good", Group: "g"},
	}, 1, 2, 3, 4)
}

func sendsNothingTooLate(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	msgs := make([]hook.Message, 12)
	for i := range msgs {
		msgs[i].Body = fmt.Sprint(i)
	}
	failed, err := q.Send(ctx, msgs)
	if len(failed) != len(msgs) || !errors.Is(err, context.Canceled) {
		t.Errorf("Send() = %v, %v; want all 12, %v", failed, err, context.Canceled)
	}
	none(t, q)
}

func delays(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	asked := []time.Duration{0, time.Millisecond, 300 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second}
	sent := time.Now()
	for _, d := range asked {
		send(t, q, hook.Message{Body: d.String(), Delay: d})
	}
	for _, d := range asked { // in whatever order they come
		r := receive(t, q, 1)[0]
		took := time.Since(sent)
		if d, _ = time.ParseDuration(r.Body); took < d {
			t.Errorf("a message with a delay of %s came after %s", d, took)
		}
		if took > d+late {
			t.Errorf("a message with a delay of %s came after %s only", d, took)
		}
	}
}

func hides(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	send(t, q, hook.Message{Body: "x"})
	const visibility = 2 * time.Second
	before := time.Now()
	first := receiveFor(t, q, 1, visibility)[0]
	second := receive(t, q, 1)[0]
	if took := time.Since(before); took < visibility {
		t.Errorf("a message hidden for %s came again after %s", visibility, took)
	}
	if second.Receives != 2 {
		t.Errorf("Receives = %d at the second receive; want 2", second.Receives)
	}
	if second.ID != first.ID {
		t.Errorf("received under the id %s, then %s; want one id", first.ID, second.ID)
	}
	if second.Receipt == first.Receipt {
		t.Error("two receives, one receipt; want one each")
	}
	if !second.SentAt.Equal(first.SentAt) {
		t.Errorf("sent at %s, then at %s; want one time", first.SentAt, second.SentAt)
	}
}

func hidesNothing(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	send(t, q, hook.Message{Body: "x"})
	receiveFor(t, q, 1, 0)
	if r := receive(t, q, 1)[0]; r.Receives != 2 {
		t.Errorf("Receives = %d at the second receive; want 2", r.Receives)
	}
}

func releasesAtOnce(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	send(t, q, hook.Message{Body: "x"})
	r := receive(t, q, 1)[0]
	if err := q.Release(t.Context(), r.Receipt, 0); err != nil {
		t.Fatalf("Release() = %v; want nil", err)
	}
	if r = receive(t, q, 1)[0]; r.Receives != 2 {
		t.Errorf("Receives = %d after a release; want 2", r.Receives)
	}
}

func releasesLater(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	const delay = 2 * time.Second
	send(t, q, hook.Message{Body: "sooner"})
	sooner := receiveFor(t, q, 1, hidden)[0]
	send(t, q, hook.Message{Body: "later"})
	later := receiveFor(t, q, 1, time.Second)[0]
	before := time.Now()
	for _, r := range []hook.Received{sooner, later} {
		if err := q.Release(t.Context(), r.Receipt, delay); err != nil {
			t.Fatalf("Release() = %v; want nil", err)
		}
	}
	for range 2 {
		r := receive(t, q, 1)[0]
		if took := time.Since(before); took < delay {
			t.Errorf("the message %q came %s after its release; want %s", r.Body, took, delay)
		}
	}
}

func deletes(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	send(t, q, hook.Message{Body: "x"})
	r := receiveFor(t, q, 1, time.Second)[0]
	for range 2 {
		if err := q.Delete(t.Context(), r.Receipt); err != nil {
			t.Errorf("Delete() = %v; want nil", err)
		}
	}
	stays(t, q, 2*time.Second)
}

func deletesLate(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	send(t, q, hook.Message{Body: "x"})
	r := receiveFor(t, q, 1, 0)[0] // visible from now on
	if err := q.Delete(t.Context(), r.Receipt); err != nil {
		t.Fatalf("Delete() = %v; want nil", err)
	}
	none(t, q)
}

func oldReceipt(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	send(t, q, hook.Message{Body: "x"})
	old := receiveFor(t, q, 1, 0)[0]
	anew := receiveFor(t, q, 1, time.Second)[0]
	if err := q.Delete(t.Context(), old.Receipt); err != nil {
		t.Errorf("Delete() with an old receipt = %v; want nil", err)
	}
	if err := q.Delete(t.Context(), anew.Receipt); err != nil {
		t.Errorf("Delete() with the last receipt = %v; want nil", err)
	}
	stays(t, q, 2*time.Second)
}

func noReceipt(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	for _, receipt := range []string{"", "nonsense"} {
		if err := q.Delete(t.Context(), receipt); err == nil {
			t.Errorf("Delete(%q) = nil; want an error", receipt)
		}
		if err := q.Release(t.Context(), receipt, 0); err == nil {
			t.Errorf("Release(%q) = nil; want an error", receipt)
		}
	}
}

func deletesMany(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	d, ok := q.(BatchDeleter)
	if !ok {
		t.Fatalf("%T cannot delete many at once", q)
	}
	if failed, err := d.DeleteBatch(t.Context(), nil); failed != nil || err != nil {
		t.Errorf("DeleteBatch(none) = %v, %v; want nil, nil", failed, err)
	}
	var msgs []hook.Message
	for i := range 23 {
		msgs = append(msgs, hook.Message{Body: fmt.Sprint(i)})
	}
	send(t, q, msgs...)
	var receipts []string
	for _, r := range receiveFor(t, q, len(msgs), 6*time.Second) {
		receipts = append(receipts, r.Receipt)
	}
	receipts = slices.Insert(receipts, 11, "nonsense")
	failed, err := d.DeleteBatch(t.Context(), receipts)
	if diff := cmp.Diff([]int{11}, failed); diff != "" || err == nil {
		t.Errorf("DeleteBatch() = %v, %v; want [11] and an error", failed, err)
	}
	if failed, err := d.DeleteBatch(t.Context(), slices.Delete(receipts, 11, 12)); failed != nil || err != nil {
		t.Errorf("DeleteBatch(again) = %v, %v; want nil, nil", failed, err)
	}
	stays(t, q, 7*time.Second)
}

func waitsForSend(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	type answer struct {
		rs   []hook.Received
		err  error
		took time.Duration
	}
	answered := make(chan answer, 1)
	start := time.Now()
	go func() {
		rs, err := q.Receive(t.Context(), 10, hidden, 20*time.Second)
		answered <- answer{rs, err, time.Since(start)}
	}()
	// Most of the time the receiver is waiting by then; either way it must get
	// the message.
	none(t, q)
	send(t, q, hook.Message{Body: "x"})
	if a := <-answered; a.err != nil || len(a.rs) != 1 || a.took > late {
		t.Errorf("Receive() = %v, %v after %s; want the message, nil, long before its wait of 20 s is over", a.rs, a.err, a.took)
	}
}

func waitsNoLonger(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	for _, wait := range []time.Duration{0, 300 * time.Millisecond, 2 * time.Second} {
		start := time.Now()
		rs, err := q.Receive(t.Context(), 10, hidden, wait)
		took := time.Since(start)
		if len(rs) != 0 || err != nil {
			t.Errorf("Receive() = %v, %v; want none, nil", rs, err)
		}
		if took < wait || took > wait+late {
			t.Errorf("Receive waited %s; want %s", took, wait)
		}
	}
}

func waitEnds(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	rs, err := q.Receive(ctx, 10, hidden, 20*time.Second)
	if len(rs) != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive() = %v, %v; want none, %v", rs, err, context.DeadlineExceeded)
	}
	if took := time.Since(start); took > late {
		t.Errorf("Receive went on for %s", took)
	}
}

func receivesNoMore(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	var msgs []hook.Message
	for i := range 12 {
		msgs = append(msgs, hook.Message{Body: fmt.Sprint(i)})
	}
	send(t, q, msgs...)
	for _, max := range []int{1, 3, 10} {
		rs, err := q.Receive(t.Context(), max, time.Second, 2*time.Second)
		if err != nil || len(rs) == 0 || len(rs) > max {
			t.Errorf("Receive(%d) = %d messages, %v; want 1 to %d, nil", max, len(rs), err, max)
		}
	}
}

func boundsReceive(t *testing.T, open Open) {
	q, _ := open(t, Options{Calm: true})
	for _, c := range []struct {
		max              int
		visibility, wait time.Duration
	}{
		{0, time.Minute, 0},
		{11, time.Minute, 0},
		{1, -1, 0},
		{1, 12*time.Hour + 1, 0},
		{1, time.Minute, -1},
		{1, time.Minute, 20*time.Second + 1},
	} {
		if rs, err := q.Receive(t.Context(), c.max, c.visibility, c.wait); err == nil {
			t.Errorf("Receive(%d, %s, %s) = %v, nil; want an error", c.max, c.visibility, c.wait, rs)
		}
	}
	send(t, q, hook.Message{Body: "x"})
	r := receive(t, q, 1)[0]
	for _, delay := range []time.Duration{-1, 12*time.Hour + 1} {
		if err := q.Release(t.Context(), r.Receipt, delay); err == nil {
			t.Errorf("Release(%s) = nil; want an error", delay)
		}
	}
}

func deadLetters(t *testing.T, open Open) {
	const maxReceives = 3
	q, dead := open(t, Options{MaxReceives: maxReceives, Calm: true})
	poison := hook.Message{Body: "poison", Group: "g"}
	send(t, q, poison, hook.Message{Body: "good"})
	got := map[string][]int{}
	var id string
	for end := time.Now().Add(late); ; {
		rs, err := q.Receive(t.Context(), 10, time.Second, time.Second)
		if err != nil {
			t.Fatalf("Receive() = %v; want nil", err)
		}
		for _, r := range rs {
			got[r.Body] = append(got[r.Body], r.Receives)
			if r.Body == "good" {
				remove(t, q, r)
			} else {
				id = r.ID
			}
		}
		if rs, err = dead.Receive(t.Context(), 10, hidden, time.Second); err != nil {
			t.Fatalf("Receive() of dead letters = %v; want nil", err)
		}
		if len(rs) > 0 {
			r := rs[0]
			if len(rs) != 1 || r.Body != poison.Body || r.Group != poison.Group || r.ID != id {
				t.Errorf("dead letters: %v; want the message %s alone", rs, id)
			}
			remove(t, dead, r)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no dead letter after %s", late)
		}
	}
	if diff := cmp.Diff(map[string][]int{"poison": {1, 2, 3}, "good": {1}}, got); diff != "" {
		t.Errorf("Receives, by message (-want +got):\n%s", diff)
	}
	none(t, q)
	none(t, dead)
}

func noDeadLetters(t *testing.T, open Open) {
	q, dead := open(t, Options{MaxReceives: 2, Calm: true})
	send(t, q, hook.Message{Body: "x"})
	receiveFor(t, q, 1, 0)
	remove(t, q, receiveFor(t, q, 1, 0)[0]) // at the last opportunity
	none(t, q)
	none(t, dead)
}

func losesNothing(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	churn(t, q, func(hook.Received) bool { return true })
}

func losesNothingToTheDead(t *testing.T, open Open) {
	q, _ := open(t, Options{})
	// Who gets a message first never answers; the second one does.
	churn(t, q, func(r hook.Received) bool { return r.Receives > 1 })
}

// churn sends and receives much at once, and ends when every message that was
// sent has been seen by a receiver that deleted it.
func churn(t *testing.T, q Queue, answers func(hook.Received) bool) {
	const senders, receivers, each = 4, 4, 25
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	var mu sync.Mutex
	open := map[string]bool{}
	for s := range senders {
		for i := range each {
			open[fmt.Sprintf("%d/%d", s, i)] = true
		}
	}
	done := make(chan struct{})

	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := 0; i < each; {
				var msgs []hook.Message
				for range min(1+i%13, each-i) { // batches of all sizes
					msgs = append(msgs, hook.Message{Body: fmt.Sprintf("%d/%d", s, i)})
					i++
				}
				send(t, q, msgs...)
			}
		})
	}
	for r := range receivers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-ctx.Done():
					return
				default:
				}
				rs, err := q.Receive(ctx, 1+3*r, 2*time.Second, time.Second)
				if err != nil {
					t.Errorf("Receive() = %v; want nil", err)
					return
				}
				for _, r := range rs {
					if !answers(r) {
						continue
					}
					if err := q.Delete(ctx, r.Receipt); err != nil {
						t.Errorf("Delete() = %v; want nil", err)
						return
					}
					mu.Lock()
					if open[r.Body] {
						if delete(open, r.Body); len(open) == 0 {
							close(done)
						}
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(open) > 0 {
		t.Errorf("%d of %d messages never came: %v", len(open), senders*each, slices.Sorted(maps.Keys(open)))
	}
}

// send sends the messages, again those that failed, and reports an error when
// some of them fail three times.
func send(t *testing.T, q Queue, msgs ...hook.Message) {
	t.Helper()
	var err error
	for range 3 {
		var failed []int
		failed, err = q.Send(t.Context(), msgs)
		if (len(failed) > 0) != (err != nil) || !slices.IsSorted(failed) {
			t.Errorf("Send() = %v, %v; want rising indexes and an error, or neither", failed, err)
			return
		}
		if len(failed) == 0 {
			return
		}
		var again []hook.Message
		for _, i := range failed {
			again = append(again, msgs[i])
		}
		msgs = again
	}
	t.Errorf("Send() = %v for %d messages, three times", err, len(msgs))
}

// fails sends msgs at once, and wants those at the indexes in bad to fail and
// the others to arrive, but for those with a delay.
func fails(t *testing.T, q Queue, msgs []hook.Message, bad ...int) {
	t.Helper()
	failed, err := q.Send(t.Context(), msgs)
	if diff := cmp.Diff(bad, failed); diff != "" || err == nil {
		t.Errorf("Send() = %v, %v; want %v and an error", failed, err, bad)
	}
	want := map[string]bool{}
	for i, m := range msgs {
		if !slices.Contains(bad, i) && m.Delay == 0 {
			want[m.Body] = true
		}
	}
	for _, r := range receive(t, q, len(want)) {
		if !want[r.Body] {
			t.Errorf("received %.40q; want only what did not fail", r.Body)
		}
	}
	none(t, q)
}

// receive receives n different messages for good, or ends the test.
func receive(t *testing.T, q Queue, n int) []hook.Received {
	t.Helper()
	return receiveFor(t, q, n, hidden)
}

func receiveFor(t *testing.T, q Queue, n int, visibility time.Duration) []hook.Received {
	t.Helper()
	var got []hook.Received
	seen := map[string]bool{}
	for end := time.Now().Add(late); len(got) < n; {
		rs, err := q.Receive(t.Context(), min(10, n-len(got)), visibility, 5*time.Second)
		if err != nil {
			t.Fatalf("Receive() = %v; want nil", err)
		}
		for _, r := range rs {
			if !seen[r.ID] {
				seen[r.ID] = true
				got = append(got, r)
			}
		}
		if len(rs) == 0 && time.Now().After(end) {
			t.Fatalf("received %d messages in %s; want %d", len(got), late, n)
		}
	}
	return got
}

// none wants no message to be visible.
func none(t *testing.T, q Queue) {
	t.Helper()
	stays(t, q, time.Second)
}

// stays wants the queue to show nothing for d.
func stays(t *testing.T, q Queue, d time.Duration) {
	t.Helper()
	rs, err := q.Receive(t.Context(), 10, hidden, d)
	if len(rs) != 0 || err != nil {
		t.Errorf("Receive() = %v, %v; want no message for %s", rs, err, d)
	}
}

func remove(t *testing.T, q Queue, r hook.Received) {
	t.Helper()
	if err := q.Delete(t.Context(), r.Receipt); err != nil {
		t.Errorf("Delete() = %v; want nil", err)
	}
}
