package boltqueue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"eventhooks/internal/boltqueue"
	"eventhooks/internal/hook"
	"eventhooks/internal/queuetest"
)

const hidden = 10 * time.Minute

func openFile(t testing.TB, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tempFile(t testing.TB) *bbolt.DB {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "queue.db"))
}

func openQueue(t testing.TB, db *bbolt.DB, name string, o boltqueue.Options) *boltqueue.Queue {
	t.Helper()
	q, err := boltqueue.Open(db, name, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestQueue(t *testing.T) {
	for _, strict := range []bool{false, true} {
		name := "as it is"
		if strict {
			name = "no kinder than SQS"
		}
		t.Run(name, func(t *testing.T) {
			queuetest.RunIn(t, synctest.Test, func(t *testing.T, o queuetest.Options) (q, dead queuetest.Queue) {
				bo := boltqueue.Options{MaxReceives: o.MaxReceives, Strict: strict && !o.Calm}
				if o.MaxReceives > 0 {
					bo.DeadLetter = "dead"
				}
				db := tempFile(t)
				db.NoSync = true // the promise is not about power cuts, and the disk is slow
				bq := openQueue(t, db, "live", bo)
				if d := bq.DeadLetter(); d != nil {
					return bq, d
				}
				return bq, nil
			})
		})
	}
}

func send(t testing.TB, q *boltqueue.Queue, msgs ...hook.Message) {
	t.Helper()
	if failed, err := q.Send(t.Context(), msgs); err != nil {
		t.Fatalf("Send() = %v, %v; want nil, nil", failed, err)
	}
}

// receive receives n messages, in as many calls as it takes, and returns them.
func receive(t testing.TB, q *boltqueue.Queue, n int, visibility, wait time.Duration) []hook.Received {
	t.Helper()
	var all []hook.Received
	for len(all) < n {
		rs, err := q.Receive(t.Context(), min(10, n-len(all)), visibility, wait)
		if err != nil || len(rs) == 0 {
			t.Fatalf("Receive() = %v, %v after %d messages; want %d", rs, err, len(all), n)
		}
		all = append(all, rs...)
	}
	return all
}

func bodies(rs []hook.Received) []string {
	var bs []string
	for _, r := range rs {
		bs = append(bs, r.Body)
	}
	return bs
}

func lengths(t *testing.T, q *boltqueue.Queue, visible, inFlight, delayed int) {
	t.Helper()
	v, f, d, err := q.Len(t.Context())
	if err != nil || v != visible || f != inFlight || d != delayed {
		t.Errorf("Len() = %d, %d, %d, %v; want %d, %d, %d, nil", v, f, d, err, visible, inFlight, delayed)
	}
}

func TestQueue_Receive_exactly(t *testing.T) {
	in := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}

	in("delays count to the millisecond", func(t *testing.T) {
		q := openQueue(t, tempFile(t), "q", boltqueue.Options{})
		start := time.Now()
		for _, d := range []time.Duration{time.Second, 200 * time.Millisecond, 7 * time.Millisecond} {
			send(t, q, hook.Message{Body: d.String(), Delay: d})
		}
		for _, d := range []time.Duration{7 * time.Millisecond, 200 * time.Millisecond, time.Second} {
			r := receive(t, q, 1, hidden, 5*time.Second)[0]
			if r.Body != d.String() {
				t.Fatalf("received %s; want %s", r.Body, d)
			}
			if took := time.Since(start); took != d { // the bubble's clock stands still while we write
				t.Errorf("a message with a delay of %s came after %s", d, took)
			}
		}
	})

	in("what becomes visible again wakes who waits, at that moment", func(t *testing.T) {
		q := openQueue(t, tempFile(t), "q", boltqueue.Options{})
		send(t, q, hook.Message{Body: "x"})
		waited := make(chan time.Time)
		receive(t, q, 1, 3*time.Second, 0)
		taken := time.Now()
		go func() {
			receive(t, q, 1, hidden, 20*time.Second)
			waited <- time.Now()
		}()
		if took := (<-waited).Sub(taken); took != 3*time.Second {
			t.Errorf("it came after %s; want 3s", took)
		}
	})

	in("a receiver learns of a visibility that began while it waited", func(t *testing.T) {
		q := openQueue(t, tempFile(t), "q", boltqueue.Options{})
		got := make(chan int)
		for range 2 { // one gets it first, the other when it is visible again
			go func() {
				rs, err := q.Receive(t.Context(), 1, 2*time.Second, 20*time.Second)
				if err != nil || len(rs) != 1 {
					t.Errorf("Receive() = %v, %v; want a message", rs, err)
					got <- 0
					return
				}
				got <- rs[0].Receives
			}()
		}
		synctest.Wait()
		start := time.Now()
		send(t, q, hook.Message{Body: "x"})
		first, second := <-got, <-got
		if first != 1 || second != 2 {
			t.Errorf("Receives = %d, then %d; want 1, then 2", first, second)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the second receive took %s; want 2s", took)
		}
	})

	in("an idle Receive does nothing but wait", func(t *testing.T) {
		db := tempFile(t)
		q := openQueue(t, db, "q", boltqueue.Options{})
		send(t, q, hook.Message{Body: "x", Delay: time.Minute})
		before := db.Stats()
		rs, err := q.Receive(t.Context(), 10, hidden, 20*time.Second)
		after := db.Stats()
		if len(rs) != 0 || err != nil {
			t.Errorf("Receive() = %v, %v; want none, nil", rs, err)
		}
		if n := after.TxN - before.TxN; n != 2 { // at the beginning and at the end
			t.Errorf("it looked %d times; want 2", n)
		}
		if n := after.TxStats.GetWrite() - before.TxStats.GetWrite(); n != 0 {
			t.Errorf("it wrote %d times; want 0", n)
		}
	})

	in("dead letters wake who waits for them", func(t *testing.T) {
		q := openQueue(t, tempFile(t), "q", boltqueue.Options{DeadLetter: "dead", MaxReceives: 1})
		send(t, q, hook.Message{Body: "x"})
		got := make(chan time.Time)
		go func() {
			receive(t, q.DeadLetter(), 1, hidden, 20*time.Second)
			got <- time.Now()
		}()
		receive(t, q, 1, 0, 0)
		synctest.Wait()
		start := time.Now()
		if rs, err := q.Receive(t.Context(), 1, 0, 0); len(rs) != 0 || err != nil {
			t.Errorf("Receive() = %v, %v; want none, nil", rs, err)
		}
		if took := (<-got).Sub(start); took != 0 {
			t.Errorf("the dead letter came after %s; want it at once", took)
		}
	})
}

func TestQueue_Receive_inOrder(t *testing.T) {
	q := openQueue(t, tempFile(t), "q", boltqueue.Options{})
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprint(i))
		send(t, q, hook.Message{Body: want[i]})
	}
	if diff := cmp.Diff(want, bodies(receive(t, q, 30, hidden, 0))); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

func TestQueue_oldReceipt(t *testing.T) {
	q := openQueue(t, tempFile(t), "q", boltqueue.Options{})
	send(t, q, hook.Message{Body: "x"})
	old := receive(t, q, 1, 0, 0)[0]
	receive(t, q, 1, hidden, 0) // someone else has it now
	if err := q.Delete(t.Context(), old.Receipt); err != nil {
		t.Errorf("Delete() = %v; want nil", err)
	}
	if err := q.Release(t.Context(), old.Receipt, 0); err != nil {
		t.Errorf("Release() = %v; want nil", err)
	}
	lengths(t, q, 0, 1, 0)
}

func TestQueue_Len(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, tempFile(t), "q", boltqueue.Options{DeadLetter: "dead", MaxReceives: 2})
		lengths(t, q, 0, 0, 0)
		send(t, q, hook.Message{Body: "a"}, hook.Message{Body: "b"}, hook.Message{Body: "c", Delay: time.Minute})
		lengths(t, q, 2, 0, 1)
		r := receive(t, q, 1, time.Second, 0)[0]
		lengths(t, q, 1, 1, 1)
		if err := q.Release(t.Context(), r.Receipt, time.Second); err != nil {
			t.Fatal(err)
		}
		lengths(t, q, 1, 0, 2)
		time.Sleep(time.Second)
		lengths(t, q, 2, 0, 1)
		for _, r := range receive(t, q, 2, hidden, 0) {
			if r.Receives == 1 {
				if err := q.Delete(t.Context(), r.Receipt); err != nil {
					t.Fatal(err)
				}
			}
		}
		lengths(t, q, 0, 1, 1)
		time.Sleep(hidden)
		if rs, err := q.Receive(t.Context(), 10, hidden, 0); len(rs) != 1 || rs[0].Body != "c" || err != nil {
			t.Errorf("Receive() = %v, %v; want c, nil", rs, err)
		}
		lengths(t, q, 0, 1, 0)
		lengths(t, q.DeadLetter(), 1, 0, 0)
	})
}

func TestOpen(t *testing.T) {
	// restart closes the file and opens it again, as after a crash: what a
	// Send or Receive has returned from is on the disk.
	restart := func(t *testing.T, db *bbolt.DB) *bbolt.DB {
		t.Helper()
		path := db.Path()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return openFile(t, path)
	}

	t.Run("what a dead process had in flight is visible at once, and counted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := tempFile(t)
			q := openQueue(t, db, "q", boltqueue.Options{})
			send(t, q, hook.Message{Body: "a", Group: "g"}, hook.Message{Body: "b"})
			first := receive(t, q, 2, 12*time.Hour, 0)
			if err := q.Delete(t.Context(), first[1].Receipt); err != nil {
				t.Fatal(err)
			}
			q = openQueue(t, restart(t, db), "q", boltqueue.Options{})
			lengths(t, q, 1, 0, 0)
			r := receive(t, q, 1, hidden, 0)[0]
			want := first[0]
			want.Receives = 2
			if diff := cmp.Diff(want, r, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Receipt" }, cmp.Ignore())); diff != "" {
				t.Errorf("received (-want +got):\n%s", diff)
			}
		})
	})

	t.Run("delays outlast the process", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := tempFile(t)
			q := openQueue(t, db, "q", boltqueue.Options{})
			send(t, q, hook.Message{Body: "sent", Delay: 10 * time.Minute})
			send(t, q, hook.Message{Body: "released"})
			if err := q.Release(t.Context(), receive(t, q, 1, hidden, 0)[0].Receipt, 5*time.Minute); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			q = openQueue(t, restart(t, db), "q", boltqueue.Options{})
			lengths(t, q, 0, 0, 2)
			time.Sleep(3 * time.Minute)
			lengths(t, q, 1, 0, 1)
			time.Sleep(5 * time.Minute)
			lengths(t, q, 2, 0, 0)
		})
	})

	t.Run("a message that kills each process becomes a dead letter", func(t *testing.T) {
		db := tempFile(t)
		o := boltqueue.Options{DeadLetter: "dead", MaxReceives: 3}
		q := openQueue(t, db, "q", o)
		send(t, q, hook.Message{Body: "poison"})
		for range 3 {
			receive(t, q, 1, 12*time.Hour, 0)
			db = restart(t, db)
			q = openQueue(t, db, "q", o)
		}
		if rs, err := q.Receive(t.Context(), 1, hidden, 0); len(rs) != 0 || err != nil {
			t.Errorf("Receive() = %v, %v; want none, nil", rs, err)
		}
		if r := receive(t, q.DeadLetter(), 1, hidden, 0)[0]; r.Body != "poison" || r.Receives != 1 {
			t.Errorf("the dead letter is %q, received %d times; want poison, for the first time", r.Body, r.Receives)
		}
	})

	t.Run("queues of one file do not mix", func(t *testing.T) {
		db := tempFile(t)
		a, b := openQueue(t, db, "a", boltqueue.Options{}), openQueue(t, db, "b", boltqueue.Options{})
		send(t, a, hook.Message{Body: "for a"})
		lengths(t, b, 0, 0, 0)
		send(t, b, hook.Message{Body: "for b"})
		if got := bodies(receive(t, a, 1, hidden, 0)); got[0] != "for a" {
			t.Errorf("a got %v", got)
		}
	})

	for name, c := range map[string]struct {
		queue string
		o     boltqueue.Options
	}{
		"a queue without a name":                    {"", boltqueue.Options{}},
		"a maximum without a dead-letter queue":     {"q", boltqueue.Options{MaxReceives: 3}},
		"a dead-letter queue without a maximum":     {"q", boltqueue.Options{DeadLetter: "d"}},
		"a maximum below zero":                      {"q", boltqueue.Options{DeadLetter: "d", MaxReceives: -1}},
		"a queue that is its own dead-letter queue": {"q", boltqueue.Options{DeadLetter: "q", MaxReceives: 3}},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if _, err := boltqueue.Open(tempFile(t), c.queue, c.o); err == nil {
				t.Error("Open() = nil; want an error")
			}
		})
	}

	t.Run("a closed file is an error everywhere", func(t *testing.T) {
		db := tempFile(t)
		q := openQueue(t, db, "q", boltqueue.Options{})
		db.Close()
		if failed, err := q.Send(t.Context(), []hook.Message{{Body: "x"}}); len(failed) != 1 || err == nil {
			t.Errorf("Send() = %v, %v; want [0] and an error", failed, err)
		}
		if _, err := q.Receive(t.Context(), 1, 0, 0); err == nil {
			t.Error("Receive() = nil; want an error")
		}
		if err := q.Delete(t.Context(), "1.1"); err == nil {
			t.Error("Delete() = nil; want an error")
		}
		if _, _, _, err := q.Len(t.Context()); err == nil {
			t.Error("Len() = nil; want an error")
		}
		if _, err := boltqueue.Open(db, "q", boltqueue.Options{}); err == nil {
			t.Error("Open() = nil; want an error")
		}
	})
}

// TestQueue_strict checks that a strict queue is what it says it is: the tests
// of other packages lean on it.
func TestQueue_strict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, tempFile(t), "q", boltqueue.Options{Strict: true})
		var all []hook.Message
		for i := range 200 {
			all = append(all, hook.Message{Body: fmt.Sprint(i)})
		}
		failed, err := q.Send(t.Context(), all)
		if len(failed) == 0 || len(failed) > 100 || err == nil || !slices.IsSorted(failed) {
			t.Fatalf("Send() = %v, %v; want some to fail", failed, err)
		}
		lengths(t, q, 200-len(failed), 0, 0)
		var again []hook.Message
		for _, i := range failed {
			again = append(again, all[i])
		}
		if failed, err := q.Send(t.Context(), again); failed != nil || err != nil {
			t.Errorf("Send(again) = %v, %v; want nil, nil", failed, err)
		}
		if rs, err := q.Receive(t.Context(), 10, hidden, 0); len(rs) != 0 || err != nil {
			t.Errorf("the first Receive that does not wait = %v, %v; want none, nil", rs, err)
		}

		var order []string
		seen := map[string]int{}
		short := 0
		for {
			rs, err := q.Receive(t.Context(), 10, hidden, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if len(rs) == 0 {
				break
			}
			if len(rs) < 10 {
				short++
			}
			for _, r := range rs {
				order = append(order, r.Body)
				seen[r.ID]++
				if r.Receives != seen[r.ID] {
					t.Errorf("Receives = %d at receive %d", r.Receives, seen[r.ID])
				}
			}
		}
		if len(seen) != 200 {
			t.Errorf("%d messages came; want 200", len(seen))
		}
		if n := len(order) - len(seen); n == 0 || n > 60 {
			t.Errorf("%d messages came twice; want some", n)
		}
		if short == 0 {
			t.Error("every answer was full; want some to be short")
		}
		if slices.IsSortedFunc(order[:20], strings.Compare) {
			t.Errorf("they came in order: %v", order[:20])
		}
	})
}

// TestQueue_crash kills a process that sends, receives and deletes, again and
// again, and looks at what it left.
func TestQueue_crash(t *testing.T) {
	const env = "BOLTQUEUE_TEST_FILE"
	if path := os.Getenv(env); path != "" {
		crash(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "queue.db")
	sent, deleted := map[string]bool{}, map[string]bool{}
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestQueue_crash$", "-test.timeout=1m")
		cmd.Env = append(os.Environ(), env+"="+path, fmt.Sprintf("BOLTQUEUE_TEST_ROUND=%d", round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n, last := 0, 100+rand.IntN(200); lines.Scan(); n++ {
			// All that it says before it dies counts, also what is read after
			// the kill.
			switch what, body, _ := strings.Cut(lines.Text(), " "); what {
			case "sent":
				sent[body] = true
			case "deleted":
				deleted[body] = true
			default:
				t.Errorf("the process said %q", lines.Text())
			}
			if n == last {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself; want it killed")
		}
	}

	q := openQueue(t, openFile(t, path), "q", boltqueue.Options{})
	visible, inFlight, delayed, err := q.Len(t.Context())
	if err != nil || inFlight != 0 || delayed != 0 {
		t.Errorf("Len() = %d, %d, %d, %v; want all visible", visible, inFlight, delayed, err)
	}
	got := map[string]bool{}
	for _, r := range receive(t, q, visible, hidden, 0) {
		if deleted[r.Body] {
			t.Errorf("message %s was deleted, and is there", r.Body)
		}
		got[r.Body] = true
	}
	if len(sent) < 100 || len(deleted) < 20 {
		t.Errorf("%d sent, %d deleted: too few to show anything", len(sent), len(deleted))
	}
	// One delete of each worker and round may have been done and not been said.
	var missing []string
	for body := range sent {
		if !got[body] && !deleted[body] {
			missing = append(missing, body)
		}
	}
	if len(missing) > 4*crashWorkers {
		t.Errorf("%d of %d messages are lost: %v", len(missing), len(sent), missing)
	}
	for _, body := range missing {
		if !strings.HasPrefix(body, "delete ") {
			t.Errorf("message %q is lost; nobody deletes those", body)
		}
	}
}

const crashWorkers = 4

// crash works until it is killed, and says what it has done.
func crash(t *testing.T, path string) {
	q := openQueue(t, openFile(t, path), "q", boltqueue.Options{})
	ctx := context.Background()
	var mu sync.Mutex
	say := func(what, body string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, body)
	}
	var wg sync.WaitGroup
	for w := range crashWorkers {
		wg.Go(func() {
			for i := 0; ; i++ {
				// Of two messages one is never deleted.
				keep := fmt.Sprintf("keep %s-%d-%d", os.Getenv("BOLTQUEUE_TEST_ROUND"), w, i)
				drop := fmt.Sprintf("delete %s-%d-%d", os.Getenv("BOLTQUEUE_TEST_ROUND"), w, i)
				if _, err := q.Send(ctx, []hook.Message{{Body: keep}, {Body: drop}}); err != nil {
					t.Error(err)
					return
				}
				say("sent", keep)
				say("sent", drop)
				rs, err := q.Receive(ctx, 10, hidden, 0)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range rs {
					if strings.HasPrefix(r.Body, "delete ") {
						if err := q.Delete(ctx, r.Receipt); err != nil {
							t.Error(err)
							return
						}
						say("deleted", r.Body)
						break
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestQueue_Receive_cancelled(t *testing.T) {
	q := openQueue(t, tempFile(t), "q", boltqueue.Options{})
	send(t, q, hook.Message{Body: "x"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if rs, err := q.Receive(ctx, 1, hidden, time.Second); len(rs) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Receive() = %v, %v; want none, %v", rs, err, context.Canceled)
	}
	// It was not taken: nobody would have known.
	receive(t, q, 1, hidden, 0)
}

// BenchmarkQueue sends, receives and deletes one message after another, in as
// many goroutines as are named.
func BenchmarkQueue(b *testing.B) {
	for _, workers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			q := openQueue(b, tempFile(b), "q", boltqueue.Options{})
			body := strings.Repeat("x", 1<<10)
			b.SetParallelism(max(1, workers/2)) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := q.Send(b.Context(), []hook.Message{{Body: body}}); err != nil {
						b.Error(err)
					}
					rs, err := q.Receive(b.Context(), 1, hidden, time.Second)
					if err != nil {
						b.Error(err)
					}
					for _, r := range rs {
						if err := q.Delete(b.Context(), r.Receipt); err != nil {
							b.Error(err)
						}
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
