/** A thread that contends for a disk beside others that have it attached, too. */
import { parentPort, workerData } from 'node:worker_threads';
import { attachDisk, type Layers } from '../../src/qcow2/chain.js';
import { Contender, type Order } from '../support/contention/contender.js';
import { randomNumbers } from '../support/random-guest.js';
import { targetOf } from '../support/target.js';
import { stallingStorage } from './stalling-storage.js';

export interface WorkerOrder extends Order {
  readonly layers: Layers;
}

const { layers, ...order } = workerData as WorkerOrder;
const random = randomNumbers(order.seed * 77 + order.contender);
const { lock } = layers[0].parameters.metadata;
const disk = await attachDisk(layers, (file) => stallingStorage(file, lock, random));
parentPort!.postMessage(new Contender(order, targetOf(disk)).run());
