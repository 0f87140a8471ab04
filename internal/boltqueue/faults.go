package boltqueue

import (
	"errors"
	"math/rand/v2"
	"sync"

	"eventhooks/internal/hook"
)

// errMadeUp is why a strict queue fails a message that nothing is wrong with.
var errMadeUp = errors.New("made-up failure of a strict queue, send it again")

// faults are the rare things that SQS does and a file would not. They follow
// from a fixed seed and the order of calls, so a test that calls one after the
// other sees the same ones each time.
type faults struct {
	mu     sync.Mutex
	rand   *rand.Rand
	owed   map[hook.Message]bool // failed, to be taken when sent again
	looked bool                  // the last receive that did not wait found nothing for no reason
}

func newFaults() *faults {
	return &faults{rand: rand.New(rand.NewPCG(1, 2)), owed: map[hook.Message]bool{}}
}

// send divides the messages of a batch, given by their indexes, into those that
// go through and those that fail.
func (f *faults) send(msgs []hook.Message, batch []int) (good, bad []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.rand.IntN(20) == 0
	for _, i := range batch {
		switch {
		case f.owed[msgs[i]]:
			delete(f.owed, msgs[i])
			good = append(good, i)
		case all || f.rand.IntN(10) == 0:
			f.owed[msgs[i]] = true
			bad = append(bad, i)
		default:
			good = append(good, i)
		}
	}
	return good, bad
}

// choose returns up to max of the keys, at least one if there are any, in no
// order.
func (f *faults) choose(keys []dueKey, max int) []dueKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	n := min(len(keys), max)
	if n > 1 && f.rand.IntN(4) == 0 {
		n = 1 + f.rand.IntN(n)
	}
	return keys[:n]
}

// again says whether a message that is handed out stays visible.
func (f *faults) again() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.IntN(8) == 0
}

// blind says whether a receive that does not wait finds nothing.
func (f *faults) blind() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = !f.looked
	return f.looked
}
