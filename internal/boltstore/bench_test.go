package boltstore_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/hook"
)

// Each benchmark runs alone and with 64 at once, as deliver does; all with the
// file synced, as in local mode.
func bench(b *testing.B, op func(s *boltstore.Store, n int) error) {
	for _, c := range []struct {
		name    string
		workers int
	}{{"alone", 0}, {"64 at once", 32}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := boltstore.Open(filepath.Join(b.TempDir(), "store.db"), boltstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var n atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			if c.workers == 0 {
				for b.Loop() {
					if err := op(s, int(n.Add(1))); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.SetParallelism(c.workers)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := op(s, int(n.Add(1))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkStore_CreateDelivery(b *testing.B) {
	bench(b, func(s *boltstore.Store, n int) error {
		_, err := s.CreateDelivery(b.Context(), row("h", n), now)
		return err
	})
}

func BenchmarkStore_RecordDelivered(b *testing.B) {
	bench(b, func(s *boltstore.Store, n int) error {
		_, err := s.RecordDelivered(b.Context(), ended(row("h", n), hook.Delivered, now/1000+3600), now)
		return err
	})
}

// A claim is what it is with the write that must have come before it.
func BenchmarkStore_ClaimDelivery(b *testing.B) {
	bench(b, func(s *boltstore.Store, n int) error {
		d := row("h", n)
		if _, err := s.CreateDelivery(b.Context(), d, now); err != nil {
			return err
		}
		_, err := s.ClaimDelivery(b.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, now+90_000, now)
		return err
	})
}

func BenchmarkStore_Delivery(b *testing.B) {
	s := open(b, boltstore.Options{})
	d := row("h", 1)
	create(b, s, d)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Delivery(b.Context(), d.Key(), now); err != nil {
			b.Fatal(err)
		}
	}
}
