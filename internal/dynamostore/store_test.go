package dynamostore_test

import (
	"context"
	"testing"

	"eventhooks/internal/awstest"
	"eventhooks/internal/dynamostore"
	"eventhooks/internal/seal"
	"eventhooks/internal/storetest"
)

func open(t *testing.T) *dynamostore.Store {
	client := awstest.DynamoDB(t)
	config, state := awstest.CreateTables(t, client)
	return dynamostore.New(client, config, state)
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t) })
}

// A store that seals keeps the same promise. What is not configuration it never
// seals.
func TestStore_sealed(t *testing.T) {
	storetest.RunRecords(t, func(t *testing.T) storetest.Store {
		key, err := seal.NewKey(seal.ID{1}, make([]byte, seal.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		return open(t).Sealed(oneKey{key})
	})
}

// oneKey seals everything under one key.
type oneKey struct{ key *seal.Key }

func (k oneKey) Current(context.Context) (*seal.Key, bool, error) { return k.key, true, nil }
func (k oneKey) Key(context.Context, seal.ID) (*seal.Key, error)  { return k.key, nil }
func (k oneKey) Choose(context.Context, string) error             { return nil }
