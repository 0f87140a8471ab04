package healthprobe

import (
	"context"
	"sync"
	"time"
)

// Bounds of the probes that a run has under way. An upstream's own is its
// active.concurrency, of probes that are busy.
const (
	// maxBusy lets in a new probe each 8 ms, patience / maxBusy, while none has
	// an answer. If each needed the processor for longer, those that seem to wait
	// for their targets would wait for the processor, and each that is let in
	// would make the others later.
	maxBusy = 32
	// maxOpen bounds them all: each holds a connection.
	maxOpen = 512
	// patience is how long a probe is busy at most. One that has no answer by
	// then mostly waits, and others go on beside it.
	patience = 250 * time.Millisecond
	// defaultConcurrency is for an upstream that says 0; Kong's default.
	defaultConcurrency = 10
)

// places bounds probes in a way that those that hang do not hold up the others,
// and that there is never such a crowd that one that is well is found slow.
type places struct{ busy, open chan struct{} }

func newPlaces() *places {
	return &places{busy: make(chan struct{}, maxBusy), open: make(chan struct{}, maxOpen)}
}

// ownPlaces are those of one upstream.
func ownPlaces(concurrency int64) chan struct{} {
	if concurrency <= 0 {
		concurrency = defaultConcurrency
	}
	return make(chan struct{}, min(concurrency, maxBusy))
}

// enter waits for a place, the upstream's own first: whoever waits there holds
// up nobody else. It is false when ctx ends before; else leave gives the place
// back.
func (p *places) enter(ctx context.Context, own chan struct{}) (leave func(), ok bool) {
	for i, c := range []chan struct{}{own, p.open, p.busy} {
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			for _, c := range []chan struct{}{own, p.open}[:i] {
				<-c
			}
			return nil, false
		}
	}
	idle := sync.OnceFunc(func() {
		<-p.busy
		<-own
	})
	late := time.AfterFunc(patience, idle)
	return func() {
		late.Stop()
		idle()
		<-p.open
	}, true
}
