/** Where curvature is computed: in backward passes and steps of the program, and apart from its tensors. */

import { noGrad, scope, unscoped } from '@otimes/core';

/** Unrecorded, outside of the program's scopes; what is made and not kept is given back at the end. */
export const inOwnScope = (run: () => void): void => unscoped(() => noGrad(() => scope(run)));
