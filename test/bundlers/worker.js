/** The program in a worker, which posts the result. Anywhere else it prints it, so that the bundle can be run by Node. */
import { program } from './program.js';

program().then(result => {
  if (typeof WorkerGlobalScope === 'undefined') console.log(JSON.stringify(result));
  else postMessage(result);
});
