/** The expressions of a user's function, written anew for gpu.js: each as a number, or as a test that holds or not. */

export type Node = {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
};
export const child = (n: Node, field: string) => n[field] as Node;
export const children = (n: Node, field: string) => n[field] as readonly Node[];
export const nameOf = (n: Node) => n.name as string;

const UNARY_MATH =
  'abs acos acosh asin asinh atan atanh cbrt ceil cos cosh exp expm1 floor fround log log10 log1p log2 round sign sin sinh sqrt tan tanh trunc'.split(
    ' ',
  );
const BINARY_MATH = ['atan2', 'pow'];
const MATH = [...UNARY_MATH, ...BINARY_MATH, 'max', 'min'];
/** Whose numbers a function may name. */
const TABLES = new Map<string, object>([
  ['Math', Math],
  ['Number', Number],
]);
const COMPARISONS = ['<', '<=', '>', '>=', '==', '===', '!=', '!=='];
export const ARITHMETIC = ['+', '-', '*', '/', '%', '**'];

/** What else a function may not have, in words. */
const WORDS: Readonly<Record<string, string>> = {
  TemplateLiteral: 'a string',
  ArrayExpression: 'an array',
  ObjectExpression: 'an object',
  ArrowFunctionExpression: 'a function inside',
  FunctionExpression: 'a function inside',
  FunctionDeclaration: 'a function inside',
  ClassDeclaration: 'a class',
  NewExpression: 'new',
  SwitchStatement: 'switch',
  TryStatement: 'try',
  ThrowStatement: 'throw',
  ForOfStatement: 'for … of',
  ForInStatement: 'for … in',
  ContinueStatement: 'continue (an if around the rest does it)',
  LabeledStatement: 'a label',
  SequenceExpression: 'a sequence within an expression',
  AssignmentExpression: 'an assignment within an expression',
  UpdateExpression: '++ or −− within an expression',
  ThisExpression: 'this, but for this.constants.name',
};

/** The function that is translated. */
export type Source = {
  /** In errors. */
  readonly who: string;
  readonly text: string;
  readonly fn: Node;
  readonly constants: Readonly<Record<string, number>>;
};

export function fail({ who, text }: Pick<Source, 'who' | 'text'>, n: Node, why: string): never {
  const part = text.slice(n.start, n.end).replace(/\s+/g, ' ');
  throw new TypeError(`${who}: cannot translate ${part.length > 60 ? `${part.slice(0, 57)}…` : part}: ${why}`);
}

/** A variable of the function: its name in what is written, null before its declaration is reached. */
type Variable = { readonly own: string | null; readonly isConst: boolean };

export class Expressions {
  readonly source: Source;
  /** Names of the function → variables, the innermost block last. */
  readonly scopes: Map<string, Variable>[] = [new Map()];
  /** Our names of variables that may have no value yet. */
  unset = new Set<string>();

  constructor(source: Source) {
    this.source = source;
  }

  fail(n: Node, why: string): never {
    return fail(this.source, n, why);
  }

  refuse(n: Node): never {
    const what = WORDS[n.type] ?? (n.type === 'Literal' && typeof n.value === 'string' ? 'a string' : n.type);
    return this.fail(n, `kernels compute with numbers, and have no ${what.replace(/^an? /, '')}`);
  }

  /** The variable of a name, with our name for it. */
  known(n: Node): { readonly own: string; readonly isConst: boolean } | undefined {
    const found = this.scopes.findLast(scope => scope.has(nameOf(n)))?.get(nameOf(n));
    if (found === undefined) return undefined;
    const { own, isConst } = found;
    return own === null ? this.fail(n, 'it is used before its declaration') : { own, isConst };
  }

  /** Our name of a variable that is read. */
  read(n: Node): string | undefined {
    const own = this.known(n)?.own;
    if (own !== undefined && this.unset.has(own))
      this.fail(n, `it may have no value here; give ${nameOf(n)} a value where it is declared`);
    return own;
  }

  /** What a call or a member of a global is: its object and name. */
  #global(n: Node): string | null {
    if (n.type === 'Identifier') return this.known(n) === undefined ? nameOf(n) : null;
    if (n.type !== 'MemberExpression' || n.computed || child(n, 'object').type !== 'Identifier') return null;
    const object = child(n, 'object');
    return this.known(object) === undefined ? `${nameOf(object)}.${nameOf(child(n, 'property'))}` : null;
  }

  #isTest(n: Node): boolean {
    if (n.type === 'Literal') return typeof n.value === 'boolean';
    if (n.type === 'UnaryExpression') return n.operator === '!';
    if (n.type === 'BinaryExpression') return COMPARISONS.includes(n.operator as string);
    if (n.type === 'LogicalExpression') return this.#isTest(child(n, 'left')) && this.#isTest(child(n, 'right'));
    return n.type === 'CallExpression' && /^(Number\.)?is(NaN|Finite)$/.test(this.#global(child(n, 'callee')) ?? '');
  }

  /** An expression that is true or false. */
  test(n: Node): string {
    if (!this.#isTest(n)) {
      if (n.type === 'LogicalExpression' && n.operator !== '??')
        return `(${this.test(child(n, 'left'))} ${n.operator} ${this.test(child(n, 'right'))})`;
      return `truthy(${this.number(n)})`;
    }
    switch (n.type) {
      case 'Literal':
        return n.value === true ? '(0.0 < 1.0)' : '(1.0 < 0.0)';
      case 'UnaryExpression':
        return `(!${this.test(child(n, 'argument'))})`;
      case 'LogicalExpression':
        return `(${this.test(child(n, 'left'))} ${n.operator} ${this.test(child(n, 'right'))})`;
      case 'CallExpression': {
        const name = this.#global(child(n, 'callee'))!.replace('Number.', '');
        return `${name}(${this.#arguments(n, 1)[0]})`;
      }
      default: {
        const [a, b] = [this.number(child(n, 'left')), this.number(child(n, 'right'))];
        const operator = n.operator as string;
        if (operator.startsWith('==')) return `eq(${a}, ${b})`;
        return operator.startsWith('!=') ? `ne(${a}, ${b})` : `(${a} ${operator} ${b})`;
      }
    }
  }

  #arguments(n: Node, count: number): string[] {
    const all = children(n, 'arguments');
    if (all.length !== count) this.fail(n, `expected ${count} argument${count === 1 ? '' : 's'}, got ${all.length}`);
    return all.map(x => this.number(x));
  }

  /** An expression that is a number. */
  number(n: Node): string {
    if (this.#isTest(n)) return `(${this.test(n)} ? 1.0 : 0.0)`;
    switch (n.type) {
      case 'Literal':
        return typeof n.value === 'number' ? literal(n.value) : this.refuse(n);
      case 'Identifier':
      case 'MemberExpression':
        return this.#value(n);
      case 'UnaryExpression':
        if (n.operator !== '-' && n.operator !== '+') this.fail(n, `the operator ${n.operator} is not there`);
        return `(${n.operator === '-' ? '-' : ''}${this.number(child(n, 'argument'))})`;
      case 'BinaryExpression':
        if (!ARITHMETIC.includes(n.operator as string)) this.fail(n, `the operator ${n.operator} is not there`);
        return `(${this.number(child(n, 'left'))} ${n.operator} ${this.number(child(n, 'right'))})`;
      case 'LogicalExpression': {
        if (n.operator === '??') this.fail(n, 'the operator ?? is not there');
        const [a, b] = [this.number(child(n, 'left')), this.number(child(n, 'right'))];
        return `(${this.test(child(n, 'left'))} ? ${n.operator === '&&' ? `${b} : ${a}` : `${a} : ${b}`})`;
      }
      case 'ConditionalExpression':
        return `(${this.test(child(n, 'test'))} ? ${this.number(child(n, 'consequent'))} : ${this.number(child(n, 'alternate'))})`;
      case 'CallExpression':
        return this.#call(n);
      default:
        return this.refuse(n);
    }
  }

  #call(n: Node): string {
    const [object, name] = (this.#global(child(n, 'callee')) ?? '').split('.');
    if (object !== 'Math' || name === undefined || !MATH.includes(name))
      this.fail(n, `kernels call isNaN, isFinite, and of Math ${MATH.join(', ')}`);
    if (name === 'max' || name === 'min') {
      const all = children(n, 'arguments').map(x => this.number(x));
      if (all.length === 0) return literal(name === 'max' ? -Infinity : Infinity);
      return all.reduce((a, b) => `Math.${name}(${a}, ${b})`);
    }
    return `Math.${name}(${this.#arguments(n, BINARY_MATH.includes(name) ? 2 : 1).join(', ')})`;
  }

  #value(n: Node): string {
    const own = n.type === 'Identifier' ? this.read(n) : undefined;
    if (own !== undefined) return own;
    const name = this.#global(n);
    const [object, property] = (name ?? '').split('.');
    if (name === 'NaN' || name === 'Infinity') return literal(Number(name));
    const table = TABLES.get(object!);
    const value: unknown = property === undefined || table === undefined ? undefined : Reflect.get(table, property);
    if (typeof value === 'number') return literal(value);
    if (n.type === 'Identifier')
      this.fail(
        n,
        'it is not of the function, and a GPU does not see what is around it: a number can be an argument, or this.constants.name',
      );
    return this.#constant(n);
  }

  /** this.constants.name */
  #constant(n: Node): string {
    const object = child(n, 'object');
    const isConstant =
      this.source.fn.type === 'FunctionExpression' &&
      !n.computed &&
      object.type === 'MemberExpression' &&
      child(object, 'object').type === 'ThisExpression' &&
      child(object, 'property').name === 'constants';
    if (!isConstant)
      this.fail(n, 'kernels compute with numbers; constants are this.constants.name of a function that is no arrow');
    const name = nameOf(child(n, 'property'));
    const value = this.source.constants[name];
    if (value === undefined)
      this.fail(n, `the option constants has ${Object.keys(this.source.constants).join(', ') || 'none'}`);
    return literal(value);
  }
}

function literal(value: number): string {
  if (Number.isNaN(value)) return 'notANumber()';
  return value < 0 || Object.is(value, -0) ? `(-${literal(-value)})` : `${value}`;
}
