// The Lambda function: messages of the queue, and a table that has the ledger's items and the customers' points.

import { DynamoDBClient, GetItemCommand, TransactWriteItemsCommand } from "@aws-sdk/client-dynamodb";

import { type Ledger, type Message, consume } from "./consumer.js";
import { type Order, type Points, points } from "./points.js";

const { TABLE: TableName = "", RATES = "{}" } = process.env;
const client = new DynamoDBClient({ requestHandler: { connectionTimeout: 1_000, requestTimeout: 2_000 } });
const effect = points(JSON.parse(RATES));

const table: Ledger<Order, Points> = {
  async read(order) {
    const key = { id: { S: `order#${order}` } };
    const { Item } = await client.send(new GetItemCommand({ TableName, Key: key, ConsistentRead: true }));
    return Item?.last?.N && Item.state?.S ? { last: Number(Item.last.N), state: JSON.parse(Item.state.S) } : { last: 0 };
  },

  async commit(order, sequence, { state, write }) {
    const item = { id: { S: `order#${order}` }, last: { N: `${sequence}` }, state: { S: JSON.stringify(state) }, at: { S: new Date().toISOString() } };
    const isNext = sequence === 1
      ? { ConditionExpression: "attribute_not_exists(id)" }
      : { ConditionExpression: "#last = :before", ExpressionAttributeNames: { "#last": "last" }, ExpressionAttributeValues: { ":before": { N: `${sequence - 1}` } } };
    const record = { Put: { TableName, Item: item, ...isNext } };
    const add = write && {
      Update: {
        TableName, Key: { id: { S: `customer#${write.customer}` } },
        UpdateExpression: "ADD points :points", ExpressionAttributeValues: { ":points": { N: `${write.points}` } },
      },
    };
    await client.send(new TransactWriteItemsCommand({ TransactItems: add ? [record, add] : [record] }));
  },
};

export const handler = (batch: { Records: Message[] }) => consume(table, effect, batch.Records);
