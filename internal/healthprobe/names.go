package healthprobe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// lookupTimeout is shorter than maxSlack: a name server that does not answer
	// for once must not throw the probes of a run out of step with the next one.
	lookupTimeout = maxSlack - time.Second
	// maxLookups is the number of names asked for at once in a run.
	maxLookups = 256
	// maxAddresses bounds what one name may stand for.
	maxAddresses = 64
)

// names resolves each name once in a run, however many targets carry it.
type names struct {
	resolver Resolver
	places   chan struct{}

	mu   sync.Mutex
	seen map[string]*lookup
}

func newNames(r Resolver) *names {
	return &names{resolver: r, places: make(chan struct{}, maxLookups), seen: map[string]*lookup{}}
}

type lookup struct {
	done  chan struct{}
	addrs []netip.Addr
	err   error // in words, for a person
	// no4 and no6 say of which addresses nothing was learnt: the name server did
	// not answer for them.
	no4, no6 bool
	took     time.Duration
}

// find returns the addresses of a name, in order: its IPv4 and then its IPv6
// addresses.
func (n *names) find(ctx context.Context, host string) *lookup {
	n.mu.Lock()
	l, known := n.seen[host]
	if !known {
		l = &lookup{done: make(chan struct{})}
		n.seen[host] = l
	}
	n.mu.Unlock()
	if known {
		<-l.done
		return l
	}
	defer close(l.done)
	defer take(n.places)()
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	began := time.Now()
	found4, found6, err4, err6 := n.ask(ctx, host)
	l.took = time.Since(began)
	for _, a := range append(found4, found6...) {
		if a = a.Unmap().WithZone(""); a.IsValid() {
			l.addrs = append(l.addrs, a)
		}
	}
	if len(l.addrs) == 0 {
		if err := worse(err4, err6); err != nil {
			l.err = lookupError(err)
			return l
		}
	}
	l.no4, l.no6 = err4 != nil && !absent(err4), err6 != nil && !absent(err6)
	slices.SortFunc(l.addrs, netip.Addr.Compare)
	l.addrs = slices.Compact(l.addrs)
	l.addrs = l.addrs[:min(len(l.addrs), maxAddresses)]
	if len(l.addrs) == 0 {
		l.err = errors.New("name has no address")
	}
	return l
}

// ask asks for the addresses of each family by itself: asked for both at once,
// a resolver takes one family's answer for all there is when the other's
// question fails.
func (n *names) ask(ctx context.Context, host string) (found4, found6 []netip.Addr, err4, err6 error) {
	var wg sync.WaitGroup
	wg.Go(func() { found4, err4 = n.resolver.LookupNetIP(ctx, "ip4", host) })
	found6, err6 = n.resolver.LookupNetIP(ctx, "ip6", host)
	wg.Wait()
	return found4, found6, err4, err6
}

// absent reports whether an error says that there is nothing, as opposed to
// saying nothing.
func absent(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

// worse returns the error that says more of why a name has no address.
func worse(err4, err6 error) error {
	if err4 == nil || absent(err4) && err6 != nil {
		return err6
	}
	return err4
}

func lookupError(err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return errors.New("name does not resolve")
		case dns.IsTimeout:
			return errors.New("the name server does not answer")
		}
		return errors.New("the name server reports a failure")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the name server does not answer")
	}
	return errors.New("name does not resolve")
}
