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
	lookupTimeout = 5 * time.Second
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
	took  time.Duration
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
	found, err := n.resolver.LookupNetIP(ctx, "ip", host)
	l.took = time.Since(began)
	if err != nil {
		l.err = lookupError(err)
		return l
	}
	for _, a := range found {
		if a = a.Unmap().WithZone(""); a.IsValid() {
			l.addrs = append(l.addrs, a)
		}
	}
	slices.SortFunc(l.addrs, netip.Addr.Compare)
	l.addrs = slices.Compact(l.addrs)
	l.addrs = l.addrs[:min(len(l.addrs), maxAddresses)]
	if len(l.addrs) == 0 {
		l.err = errors.New("name has no address")
	}
	return l
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
