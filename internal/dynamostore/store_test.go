package dynamostore_test

import (
	"testing"

	"eventhooks/internal/awstest"
	"eventhooks/internal/dynamostore"
	"eventhooks/internal/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		client := awstest.DynamoDB(t)
		config, state := awstest.CreateTables(t, client)
		return dynamostore.New(client, config, state)
	})
}
